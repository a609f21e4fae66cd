// Markdown that grows. Blocks that later text cannot change are rendered once and left alone; only the last block is
// rendered again, at most once a frame, and less often where a frame's work gets long.

import { lex, render } from "./markdown.js";

const REST = 4; // a draw that took t milliseconds is followed by a rest of so many times t

export class StreamingMarkdown {
  #root;
  #tail = document.createElement("div");
  #afterDraw;
  #text = "";
  #settled = 0;
  #hasDefinitions = false;
  #frame = 0;
  #rest = 0;
  #notBefore = 0;

  /** @param {HTMLElement} root emptied and filled. @param {Function} afterDraw called after each draw. */
  constructor(root, afterDraw = () => {}) {
    this.#root = root;
    this.#afterDraw = afterDraw;
    this.#tail.className = "tail";
    root.replaceChildren(this.#tail);
  }

  append(text) {
    this.#text += text.replaceAll("\r", "");
    if (this.#frame || this.#rest) return;
    const wait = this.#notBefore - performance.now();
    if (wait > 4) this.#rest = setTimeout(() => this.#onNextFrame(), wait);
    else this.#onNextFrame();
  }

  /** Draw what is left, at once. */
  finish() {
    cancelAnimationFrame(this.#frame);
    clearTimeout(this.#rest);
    this.#draw();
    this.#tail.replaceWith(...this.#tail.childNodes);
    // A reference may stand before its definition, in a block that was left alone: then all of it again.
    if (this.#hasDefinitions) this.#root.replaceChildren(render(lex(this.#text)));
    this.#afterDraw();
  }

  #onNextFrame() {
    this.#rest = 0;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      const start = performance.now();
      this.#draw();
      this.#notBefore = performance.now() + REST * (performance.now() - start);
      this.#afterDraw();
    });
  }

  #draw() {
    const open = this.#text.slice(this.#settled);
    const tokens = lex(open);
    this.#hasDefinitions ||= Object.keys(tokens.links).length > 0;
    const last = tokens.findLastIndex((token) => token.type !== "space");
    const closed = last > 0 ? tokens.slice(0, last) : [];
    const source = closed.map((token) => token.raw).join("");
    if (closed.length > 0 && open.startsWith(source)) {
      this.#tail.before(render(withLinks(closed, tokens)));
      this.#settled += source.length;
      this.#tail.replaceChildren(render(withLinks(tokens.slice(last), tokens)));
    } else {
      this.#tail.replaceChildren(render(tokens));
    }
  }
}

const withLinks = (part, tokens) => Object.assign(part, { links: tokens.links });
