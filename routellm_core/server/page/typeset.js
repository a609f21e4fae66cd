// Mathematics and code, by libraries that are fetched when the first of either comes. Until then, and where they cannot
// read something, it stands there as it was written.

import DOMPurify from "./vendor/dompurify/purify.es.mjs";

const LONGEST = 50_000; // characters of code that are worth colouring
const COLOURED = { ALLOWED_TAGS: ["span"], ALLOWED_ATTR: ["class"], RETURN_DOM_FRAGMENT: true };

const later = (load) => {
  const library = { it: null };
  library.then = (use) => {
    if (library.it) use(library.it);
    else load().then((module) => use((library.it = module.default)), () => {}); // the page without them is still a page
  };
  return library;
};
const katex = later(() => import("./vendor/katex/katex.mjs"));
const highlight = later(() => import("./vendor/highlight/highlight.min.js"));

/** Draw the formulas in a fragment, as MathML: the browser's own, without a style or a font of its own. */
export function typesetMaths(fragment) {
  const nodes = [...fragment.querySelectorAll(".maths")];
  if (nodes.length) katex.then((library) => nodes.forEach((node) => draw(library, node)));
}

function draw(library, node) {
  const [, opening, formula] = /^(\$\$|\$|\\\[|\\\()([\s\S]*?)(?:\$\$|\$|\\\]|\\\))$/.exec(node.textContent) ?? [];
  if (!formula) return;
  const drawn = document.createElement("span");
  const displayMode = opening === "$$" || opening === "\\[";
  try {
    library.render(formula, drawn, { output: "mathml", displayMode, strict: "ignore", trust: false, maxExpand: 500 });
  } catch {
    return; // no formula that it can read
  }
  node.replaceChildren(...drawn.childNodes);
}

/** Colour a block of code in a language that is known. */
export function colourCode(code, language) {
  const text = code.textContent;
  if (!language || text.length > LONGEST) return;
  highlight.then((library) => {
    if (!library.getLanguage(language)) return;
    const { value } = library.highlight(text, { language, ignoreIllegals: true });
    code.replaceChildren(DOMPurify.sanitize(value, COLOURED));
  });
}
