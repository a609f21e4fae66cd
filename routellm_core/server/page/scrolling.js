// Follow the answer as it grows, but only while the reader is at its end.

import { byId } from "./dom.js";

const NEAR = 40; // pixels from the end that still count as being there

export class Scrolling {
  #scroller = byId("scroller");
  #toLatest = byId("to-latest");
  #following = true;

  constructor() {
    this.#scroller.addEventListener("scroll", () => this.#look(), { passive: true });
    this.#toLatest.addEventListener("click", () => this.toEnd());
    new ResizeObserver(() => this.follow()).observe(this.#scroller);
  }

  get #distance() {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroller;
    return scrollHeight - scrollTop - clientHeight;
  }

  #look() {
    this.#following = this.#distance <= NEAR;
    this.#toLatest.hidden = this.#following;
  }

  /** The content has grown. */
  follow() {
    if (this.#following) this.#scroller.scrollTop = this.#scroller.scrollHeight;
    else this.#toLatest.hidden = this.#distance <= NEAR;
  }

  toEnd() {
    this.#following = true;
    this.follow();
    this.#toLatest.hidden = true;
  }
}
