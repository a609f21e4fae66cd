// One answer on the page: its thoughts, its text as it comes, what went wrong, and the note beside it.

import { copyButton } from "./clipboard.js";
import { button, element } from "./dom.js";
import * as format from "./format.js";
import { noteOf } from "./note_view.js";
import { StreamingMarkdown } from "./streaming_markdown.js";

const LIMITS = {
  length: "The model stopped at its token limit.",
  content_filter: "The provider’s content filter ended this answer.",
};

export class AnswerView {
  #answer;
  #body;
  #pending = element("p", { class: "pending" }, "Choosing a model");
  #note = element("aside", { class: "note", "aria-label": "How this answer was routed" });
  #fault = element("div", { class: "fault", role: "alert", hidden: "" });
  #thoughts = element("pre", {});
  #thinking = element("details", { class: "thoughts", hidden: "" }, element("summary", {}, "Reasoning"), this.#thoughts);
  #markdown;
  #countdown = 0;

  /** @param {object} answer of the conversation. @param {{drawn: Function, retry: Function, askKey: Function}} on */
  constructor(answer, on) {
    this.#answer = answer;
    this.on = on;
    this.actions = element("div", { class: "actions" });
    const markdown = element("div", { class: "markdown" });
    this.#body = element("div", { class: "answer" }, this.#thinking, this.#pending, markdown, this.#fault, this.actions);
    this.#markdown = new StreamingMarkdown(markdown, on.drawn);
    this.node = element("div", { class: "version" }, this.#body, this.#note);
    this.#mark();
  }

  #mark() {
    const { decision, state } = this.#answer;
    if (decision?.tier) this.node.dataset.tier = decision.tier;
    this.#body.setAttribute("aria-busy", String(["waiting", "streaming"].includes(state)));
  }

  /** Show an answer that is over, as it was kept. */
  restore(settings) {
    const { decision, thoughts, text } = this.#answer;
    if (decision) this.decided(settings);
    if (thoughts) this.#thoughts.textContent = thoughts;
    this.#thinking.hidden = !thoughts;
    if (text) this.text(text);
    this.ended(settings);
  }

  decided(settings) {
    const { decision } = this.#answer;
    this.#body.prepend(element("h3", { class: "visually-hidden" }, `${decision.model ?? "The model"} answers`));
    this.#pending.textContent = "Waiting for the first word";
    this.#note.replaceChildren(...noteOf(this.#answer, settings));
    this.#mark();
  }

  thinking(text) {
    this.#pending.textContent = "Thinking";
    this.#thinking.hidden = false;
    this.#thoughts.append(text);
  }

  text(text) {
    this.#pending.remove();
    this.#markdown.append(text);
  }

  /** The answer has ended, in whichever way its state says. */
  ended(settings) {
    const { decision, state, finishReason, text, error } = this.#answer;
    this.#pending.remove();
    this.#markdown.finish();
    this.#mark();
    if (decision) this.#note.replaceChildren(...noteOf(this.#answer, settings));
    const remark = state === "stopped" ? "You stopped this answer." : LIMITS[finishReason];
    if (remark) this.#fault.before(element("p", { class: "remark" }, remark));
    else if (state === "done" && !text) {
      this.#fault.before(element("p", { class: "remark" }, "The model answered with nothing."));
    }
    if (error) this.#showFault(error);
  }

  /** Show what can be done with the answer; `more` are further buttons. */
  showActions(...more) {
    const { text } = this.#answer;
    const copy = text ? [copyButton(() => this.#answer.text, "Copy", "Copy this answer")] : [];
    this.actions.replaceChildren(...copy, ...more);
  }

  /** A later turn has begun: this answer can no longer be asked for again. */
  settle() {
    clearInterval(this.#countdown);
    this.#fault.querySelector("button")?.remove();
    this.#fault.querySelector(".countdown")?.remove();
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
