// The chat's running totals, and what the threshold would make of the messages so far.

import { byId, element } from "./dom.js";
import * as format from "./format.js";

const NONE = "–";
const shown = (value, write) => (value === null ? NONE : write(value));

export function showTotals(conversation, controls) {
  const totals = conversation.totals();
  byId("total-answers").textContent = format.count(totals.answers);
  byId("total-share").textContent = shown(totals.share, format.percent);
  byId("total-tokens").textContent =
    totals.tokensIn === null ? NONE : `${format.count(totals.tokensIn)}, ${format.count(totals.tokensOut)}`;
  byId("total-cost").textContent = shown(totals.cost, format.dollars);
  const atStrong = totals.saved === null ? null : totals.cost + totals.saved;
  byId("total-strong").textContent = shown(atStrong, format.dollars);
  byId("total-saved").textContent = shown(totals.saved, (saved) => savedText(saved, totals.cost));
  byId("saved-now").replaceChildren(...(totals.saved === null ? [] : savedNow(totals)));
  byId("what-if").textContent = [whatIf(conversation, controls), uncounted(totals)].filter(Boolean).join(" ");
}

function savedNow({ saved, cost }) {
  const share = savedText(saved, cost).slice(format.dollars(saved).length);
  return [`Saved ${format.dollars(saved)}`, element("span", { class: "wide-only" }, share)];
}

function savedText(saved, cost) {
  const share = cost + saved > 0 && saved > 0 ? ` (${format.percent(saved / (cost + saved))})` : "";
  return `${format.dollars(saved)}${share}`;
}

function whatIf(conversation, controls) {
  if (controls.mode !== "route") return "";
  const { strong, scored } = conversation.atThreshold(controls.router, controls.threshold);
  if (scored === 0) return "";
  const at = `At threshold ${controls.threshold},`;
  if (scored === 1) return `${at} this message would go to ${strong ? "strong" : "weak"}.`;
  return `${at} ${strong} of ${scored} messages so far would go to strong.`;
}

function uncounted({ uncounted: number }) {
  if (number === 0) return "";
  return number === 1
    ? "One answer was cut short; what it cost is not known."
    : `${number} answers were cut short; what they cost is not known.`;
}
