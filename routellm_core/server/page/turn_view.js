// One turn on the page: the question, the answer as it comes, the track it took, and the note beside it.

import { copyButton } from "./clipboard.js";
import { button, element, svgElement } from "./dom.js";
import * as format from "./format.js";
import { noteOf } from "./note_view.js";
import { StreamingMarkdown } from "./streaming_markdown.js";

const LIMITS = {
  length: "The model stopped at its token limit.",
  content_filter: "The provider’s content filter ended this answer.",
};

export class TurnView {
  #turn;
  #answer;
  #pending = element("p", { class: "pending" }, "Choosing a model");
  #note = element("aside", { class: "note", "aria-label": "How this answer was routed" });
  #fault = element("div", { class: "fault", role: "alert", hidden: "" });
  #actions = element("div", { class: "actions" });
  #markdown;
  #countdown = 0;

  /** @param {object} turn of the conversation. @param {{drawn: Function, retry: Function, edit: Function, askKey: Function}} on */
  constructor(turn, on) {
    this.#turn = turn;
    this.on = on;
    const body = element("div", { class: "markdown" });
    this.#answer = element("div", { class: "answer" }, this.#pending, body, this.#fault, this.#actions);
    this.#markdown = new StreamingMarkdown(body, on.drawn);
    this.node = element(
      "li",
      { class: "turn" },
      element("div", { class: "track", "aria-hidden": "true" }, curve("into"), element("div", { class: "run" }), curve("out")),
      element("div", { class: "question" }, element("h3", { class: "visually-hidden" }, "You"), element("p", {}, turn.question)),
      this.#answer,
      this.#note,
    );
    this.#mark();
  }

  #mark() {
    this.node.dataset.state = this.#turn.state;
    if (this.#turn.decision?.tier) this.node.dataset.tier = this.#turn.decision.tier;
    this.#answer.setAttribute("aria-busy", String(["waiting", "streaming"].includes(this.#turn.state)));
  }

  decided(settings) {
    const { decision } = this.#turn;
    this.#answer.prepend(element("h3", { class: "visually-hidden" }, `${decision.model ?? "The model"} answers`));
    this.#pending.textContent = "Waiting for the first word";
    this.#note.replaceChildren(...noteOf(this.#turn, settings));
    this.#mark();
  }

  thinking() {
    this.#pending.textContent = "Thinking";
  }

  text(text) {
    this.#pending.remove();
    this.#markdown.append(text);
  }

  /** The turn has ended, in whichever way its state says. */
  ended(settings) {
    this.#pending.remove();
    this.#markdown.finish();
    this.#mark();
    if (this.#turn.decision) this.#note.replaceChildren(...noteOf(this.#turn, settings));
    const remark = this.#turn.state === "stopped" ? "You stopped this answer." : LIMITS[this.#turn.finishReason];
    if (remark) this.#fault.before(element("p", { class: "remark" }, remark));
    else if (this.#turn.state === "done" && !this.#turn.answer) {
      this.#fault.before(element("p", { class: "remark" }, "The model answered with nothing."));
    }
    if (this.#turn.error) this.#showFault(this.#turn.error);
    this.#showActions(true);
  }

  /** A later turn has begun: this one can no longer be asked again. */
  settle() {
    clearInterval(this.#countdown);
    this.#fault.querySelector("button")?.remove();
    this.#fault.querySelector(".countdown")?.remove();
    this.#showActions(false);
  }

  remove() {
    clearInterval(this.#countdown);
    this.node.remove();
  }

  #showActions(isLast) {
    this.#actions.replaceChildren();
    if (this.#turn.answer) this.#actions.append(copyButton(() => this.#turn.answer, "Copy", "Copy this answer"));
    if (!isLast) return;
    if (!this.#turn.error) this.#actions.append(button("Retry", this.on.retry, { "aria-label": "Ask again" }));
    this.#actions.append(button("Edit", this.on.edit, { "aria-label": "Edit your message" }));
  }

  #showFault(error) {
    const again = error.needsKey ? button("Enter a key", this.on.askKey) : button("Try again", this.on.retry);
    this.#fault.replaceChildren(element("p", {}, error.message), again);
    this.#fault.hidden = false;
    if (error.retryAfter) this.#countDown(error.retryAfter, again);
  }

  #countDown(wait, again) {
    const text = element("p", { class: "countdown", role: "timer" });
    const end = performance.now() + wait * 1000;
    again.disabled = true;
    again.before(text);
    const show = () => {
      const left = Math.ceil((end - performance.now()) / 1000);
      text.textContent = left > 0 ? `The server asks to wait ${format.seconds(left)}.` : "You can try again now.";
      if (left > 0) return;
      again.disabled = false;
      clearInterval(this.#countdown);
    };
    this.#countdown = setInterval(show, 250);
    show();
  }
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
