// One turn on the page: the question, its answers (one of them, or two side by side), and the track it took.

import { preview } from "./attachments.js";
import { AnswerView } from "./answer_view.js";
import { button, element, svgElement } from "./dom.js";
import { lex, render } from "./markdown.js";

const HEADLINE = 200; // characters up to which a question is set as one
const OTHER = { strong: "weak", weak: "strong" };

export class TurnView {
  #turn;
  #views = new Map(); // by answer
  #isLast = true;
  #vote = element("div", { class: "vote", role: "group", "aria-label": "Which answer is better?" });

  /**
   * @param {object} turn of the conversation.
   * @param {{drawn: Function, retry: Function, other: Function, edit: Function, askKey: Function, changed: Function}} on
   */
  constructor(turn, on) {
    this.#turn = turn;
    this.on = on;
    this.node = element(
      "li",
      { class: "turn" },
      element("div", { class: "track", "aria-hidden": "true" }, curve("into"), element("div", { class: "run" }), curve("out")),
      questionOf(turn),
      this.#vote,
    );
  }

  /** The view of an answer, made where there is none yet. */
  view(answer) {
    if (!this.#views.has(answer)) this.#views.set(answer, new AnswerView(answer, this.on));
    return this.#views.get(answer);
  }

  get #pair() {
    const { answers, shown, beside } = this.#turn;
    return [answers[shown], answers[beside]].filter(Boolean);
  }

  /** Show the answers that are to be seen, and what can be done with them. */
  draw() {
    const pair = this.#pair;
    const [main] = pair;
    for (const old of this.node.querySelectorAll(":scope > .version")) {
      if (!pair.some((answer) => this.view(answer).node === old)) old.remove();
    }
    for (const answer of pair) {
      if (this.view(answer).node.parentNode !== this.node) this.#vote.before(this.view(answer).node);
    }
    this.node.dataset.state = pair.some(({ state }) => ["waiting", "streaming"].includes(state)) ? pair.at(-1).state : (main?.state ?? "waiting");
    delete this.node.dataset.tier;
    if (main?.decision?.tier) this.node.dataset.tier = main.decision.tier;
    this.node.classList.toggle("compared", pair.length === 2);
    const isOver = ["done", "stopped", "error"].includes(this.node.dataset.state);
    for (const answer of pair) this.view(answer).showActions(...(isOver ? this.#actions(answer === main) : []));
    this.#drawVote(isOver && pair.length === 2);
  }

  #actions(isMain) {
    if (!isMain) return [button("Put away", () => this.#putAway(), { "aria-label": "Put away the other answer" })];
    const { answers, shown, beside } = this.#turn;
    const main = answers[shown];
    const actions = [];
    if (this.#isLast) {
      const tier = OTHER[main.decision?.tier];
      if (!main.error) actions.push(button("Retry", this.on.retry, { "aria-label": "Retry, ask again" }));
      if (tier && beside === null) actions.push(button(`Ask ${tier}`, () => this.on.other(tier), { "aria-label": `Ask the ${tier} model as well` }));
      actions.push(button("Edit", this.on.edit, { "aria-label": "Edit your message" }));
    }
    if (answers.length > 1 && beside === null) actions.push(this.#pager());
    return actions;
  }

  #pager() {
    const { answers, shown } = this.#turn;
    const step = (by, label, name) => {
      const node = button(label, () => this.#show(shown + by), { "aria-label": name });
      node.disabled = !answers[shown + by];
      return node;
    };
    const count = element("span", { class: "pager-count" }, `${shown + 1} of ${answers.length}`);
    return element("span", { class: "pager" }, step(-1, "‹", "The answer before"), count, step(1, "›", "The next answer"));
  }

  #show(index) {
    Object.assign(this.#turn, { shown: index, vote: null });
    this.draw();
    this.on.changed();
  }

  #putAway() {
    Object.assign(this.#turn, { beside: null });
    this.draw();
    this.on.changed();
  }

  #drawVote(isAsked) {
    this.#vote.hidden = !isAsked;
    if (!isAsked) return;
    const choices = [["strong", "strong is better"], ["tie", "both as good"], ["weak", "weak is better"]];
    this.#vote.replaceChildren(
      element("span", { class: "hint" }, "Which is better?"),
      ...choices.map(([vote, label]) => {
        const choose = button(label, () => {
          this.#turn.vote = this.#turn.vote === vote ? null : vote;
          this.#drawVote(true);
          this.on.changed();
          this.#vote.querySelector(`[data-vote="${vote}"]`).focus();
        });
        choose.dataset.vote = vote;
        choose.setAttribute("aria-pressed", String(this.#turn.vote === vote));
        return choose;
      }),
    );
  }

  /** Show a turn that is over, as it was kept. */
  restore(settings) {
    for (const answer of this.#turn.answers) this.view(answer).restore(settings);
    this.draw();
  }

  /** A later turn has begun: this one can no longer be asked again. */
  settle() {
    this.#isLast = false;
    for (const view of this.#views.values()) view.settle();
    this.draw();
  }

  remove() {
    for (const view of this.#views.values()) view.settle();
    this.node.remove();
  }
}

/** A short question is a headline; a long one, or one with code, is text, of which the beginning is shown. */
function questionOf({ question, files }) {
  const heading = element("h3", { class: "visually-hidden" }, "You");
  const isShort = question.length <= HEADLINE && question.split("\n").length <= 3 && !question.includes("```");
  const body = isShort ? element("p", {}, question) : longQuestion(question);
  const shown = files.map((file) => element("li", {}, ...preview(file)));
  const list = files.length ? [element("ul", { class: "attached" }, ...shown)] : [];
  return element("div", { class: isShort ? "question" : "question long" }, heading, body, ...list);
}

function longQuestion(question) {
  const text = element("div", { class: "asked" });
  let plain = "";
  const flush = () => {
    if (plain.trim()) text.append(element("p", {}, plain.trim()));
    plain = "";
  };
  // A person's text is not Markdown, but for the code within fences.
  const tokens = lex(question);
  for (const token of tokens) {
    if (token.type !== "code" || !token.raw.trimStart().startsWith("```")) {
      plain += token.raw;
      continue;
    }
    flush();
    const box = element("div", { class: "fenced" });
    box.append(render(Object.assign([token], { links: tokens.links })));
    text.append(box);
  }
  flush();
  const more = button("Show all", () => {
    const isOpen = more.getAttribute("aria-expanded") !== "true";
    more.setAttribute("aria-expanded", String(isOpen));
    more.textContent = isOpen ? "Show less" : "Show all";
    text.classList.toggle("open", isOpen);
  });
  more.setAttribute("aria-expanded", "false");
  more.hidden = true;
  new ResizeObserver((_, observer) => {
    if (!text.isConnected) return observer.disconnect();
    more.hidden = !text.classList.contains("open") && text.scrollHeight <= text.clientHeight + 1;
    return undefined;
  }).observe(text);
  return element("div", {}, text, more);
}

function curve(which) {
  const drawn = { into: { strong: "M50 0C50 62 75 38 75 100", weak: "M50 0C50 62 25 38 25 100", none: "M50 0V100" } };
  drawn.out = { strong: "M75 0C75 62 50 38 50 100", weak: "M25 0C25 62 50 38 50 100", none: "M50 0V100" };
  return svgElement(
    "svg",
    { class: `curve ${which}`, viewBox: "0 0 100 100", preserveAspectRatio: "none", focusable: "false" },
    ...Object.entries(drawn[which]).map(([tier, d]) => svgElement("path", { class: tier, d, pathLength: "1" })),
  );
}
