// The note beside an answer: who gave it, the score on its scale, tokens and dollars.

import { accountOf } from "./costs.js";
import { scoreScale } from "./dial.js";
import { shareAtThreshold } from "./distribution.js";
import { element } from "./dom.js";
import * as format from "./format.js";

/** The nodes of a turn's note, as far as things are known by now. */
export function noteOf(turn, settings) {
  const { decision } = turn;
  const badge = decision.tier ? [element("span", { class: `badge ${decision.tier}` }, decision.tier)] : [];
  return [
    element("p", { class: "note-model" }, ...badge, element("span", { class: "model-name" }, decision.model ?? "unknown model")),
    ...scoreOf(decision, settings.routers),
    ...figuresOf(turn, settings.models),
  ];
}

function scoreOf(decision, routers) {
  const { score, threshold, tier, reason } = decision;
  if (score === null) return reason ? [element("p", { class: "note-reason" }, reason)] : [];
  const nodes = [scoreScale(decision), comparison(score, threshold)];
  const quantiles = routers.find(({ name }) => name === decision.router)?.quantiles;
  if (quantiles) {
    const lower = 1 - shareAtThreshold(quantiles, score);
    nodes.push(element("p", { class: "hint" }, `above ${format.percent(lower)} of ordinary traffic`));
  }
  // After a fallback, or in a conversation kept on one model, the score alone does not explain the tier.
  const expected = threshold === null ? null : score >= threshold ? "strong" : "weak";
  if (reason && expected !== tier) nodes.push(element("p", { class: "note-reason" }, reason));
  return nodes;
}

function comparison(score, threshold) {
  const node = element("p", { class: "note-score" }, "score ", element("b", {}, format.score(score)));
  if (threshold !== null) node.append(`, threshold ${format.score(threshold)}`);
  return node;
}

function figuresOf(turn, models) {
  if (!turn.usage) return [];
  const { cost, saved } = accountOf(models, turn.decision.tier, turn.usage);
  const tokens = `${format.count(turn.usage.prompt_tokens)} in, ${format.count(turn.usage.completion_tokens)} out`;
  const rows = [["tokens", tokens]];
  rows.push(["cost", cost === null ? "price not known" : format.dollars(cost)]);
  if (saved !== null) rows.push(["saved", format.dollars(saved), "Against the strong model, at the same number of tokens"]);
  return [
    element(
      "dl",
      { class: "figures" },
      ...rows.map(([term, value, title]) =>
        element("div", { class: term, title }, element("dt", {}, term), element("dd", {}, value)),
      ),
    ),
  ];
}
