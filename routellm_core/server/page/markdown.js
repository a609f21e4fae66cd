// A model's answer as nodes of the page. Three walls: marked never emits the answer's own HTML, DOMPurify keeps only the
// elements and attributes named here, and the page's policy runs no inline script and loads nothing from elsewhere.

import DOMPurify from "./vendor/dompurify/purify.es.mjs";
import { Marked } from "./vendor/marked/marked.esm.js";
import { copyButton } from "./clipboard.js";
import { colourCode, typesetMaths } from "./typeset.js";

const ALLOWED = {
  ALLOWED_TAGS: [
    "a", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre",
    "span", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
  ],
  ALLOWED_ATTR: ["href", "title", "class", "start", "align"],
  ADD_URI_SAFE_ATTR: ["start", "align"], // they hold no addresses
  ALLOWED_URI_REGEXP: /^(?:https?:\/\/|mailto:)/i,
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};
const ADDRESS = ALLOWED.ALLOWED_URI_REGEXP;
const ENTITIES = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
const escaped = (text) => text.replace(/[&<>"']/g, (character) => ENTITIES[character]);

// Mathematics is not Markdown's: its backslashes, underscores and stars stay, until it is drawn.
const MATHS = /^(?:\$\$[\s\S]+?\$\$|\\\[[\s\S]+?\\\]|\\\([\s\S]+?\\\)|\$(?![\s$])(?:\\.|[^$\\\n])*?[^\s\\$]\$(?!\d))/;
const maths = (level) => ({
  name: `maths_${level}`,
  level,
  // A block begins on its own line: any other guess would cut paragraphs in two.
  start: (text) => text.match(level === "inline" ? /\$|\\[[(]/ : /\n[ \t]*(?:\$\$|\\\[)/)?.index,
  tokenizer(text) {
    const found = MATHS.exec(text);
    if (!found || found[0].includes("\n\n")) return undefined;
    const alone = /^(?:\$\$|\\\[)/.test(found[0]) && /^[ \t]*(?:\n|$)/.test(text.slice(found[0].length));
    return level === "inline" || alone ? { type: `maths_${level}`, raw: found[0] } : undefined;
  },
  renderer: ({ raw }) =>
    level === "inline" ? `<span class="maths">${escaped(raw)}</span>` : `<p class="maths">${escaped(raw)}</p>`,
});

const marked = new Marked({
  gfm: true,
  extensions: [],
  renderer: {
    html: ({ text, block }) => (block ? `<p>${escaped(text)}</p>` : escaped(text)),
    // An image would be fetched from wherever the answer says: its address is offered as a link instead.
    image: ({ href, text }) =>
      ADDRESS.test(href) ? `<a href="${escaped(href)}">${escaped(text || href)}</a>` : escaped(text),
    checkbox: ({ checked }) => (checked ? "☑ " : "☐ "),
  },
}).use({ extensions: [maths("block"), maths("inline")] });

/** Split Markdown into block tokens, each with its `raw` text; `links` on the array holds reference definitions. */
export const lex = (text) => marked.lexer(text);

/** Render block tokens to a fragment that is safe to insert. */
export function render(tokens) {
  const fragment = DOMPurify.sanitize(marked.parser(tokens), ALLOWED);
  for (const link of fragment.querySelectorAll("a")) {
    if (!link.hasAttribute("href")) {
      link.replaceWith(...link.childNodes); // its address was refused
      continue;
    }
    link.rel = "noopener noreferrer nofollow";
    link.target = "_blank";
  }
  for (const table of fragment.querySelectorAll("table")) {
    const frame = document.createElement("div");
    frame.className = "table-frame";
    frame.tabIndex = 0; // so that the arrow keys scroll a wide table
    table.replaceWith(frame);
    frame.append(table);
  }
  for (const block of fragment.querySelectorAll("pre")) frameCode(block);
  typesetMaths(fragment);
  return fragment;
}

function frameCode(block) {
  const code = block.querySelector("code");
  const language = /language-([\w+#.-]+)/.exec(code?.className ?? "")?.[1] ?? "";
  const frame = document.createElement("div");
  frame.className = "code-frame";
  const head = document.createElement("div");
  head.className = "code-head";
  const name = document.createElement("span");
  name.textContent = language;
  head.append(name, copyButton(() => block.textContent, "Copy", "Copy the code"));
  block.replaceWith(frame);
  block.tabIndex = 0;
  frame.append(head, block);
  if (code) colourCode(code, language);
}
