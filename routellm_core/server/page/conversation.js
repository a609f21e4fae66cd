// The conversation and what it has cost. Nothing here knows the page.

import { accountOf } from "./costs.js";

export class Conversation {
  /** @param {object} models of the settings: names and prices by tier. */
  constructor(models) {
    this.models = models;
    this.turns = [];
    this.answers = []; // every answer that was begun, also those that were asked for again
  }

  get last() {
    return this.turns.at(-1);
  }

  /** Begin a turn, in place of `instead` (the last one) where that is asked again. */
  begin(question, instead = null) {
    if (instead) this.turns.splice(this.turns.indexOf(instead), 1);
    const turn = { question, answer: "", decision: null, usage: null, finishReason: null, error: null, state: "waiting" };
    this.turns.push(turn);
    return turn;
  }

  /** The messages to send for the last turn. Turns that got no answer are left out: what failed once would fail again. */
  messages(systemPrompt) {
    const before = this.turns.slice(0, -1).filter((turn) => turn.answer.trim());
    return [
      ...(systemPrompt.trim() ? [{ role: "system", content: systemPrompt }] : []),
      ...before.flatMap(({ question, answer }) => [
        { role: "user", content: question },
        { role: "assistant", content: answer },
      ]),
      { role: "user", content: this.last.question },
    ];
  }

  /** Take a decision in: the tier, where the server did not say it, is read from the model's name. */
  decided(turn, decision) {
    const named = (tier) => this.models[tier].name === decision.model;
    const tier = decision.tier ?? (named("strong") ? "strong" : named("weak") ? "weak" : null);
    turn.decision = { ...decision, tier };
    turn.state = "streaming";
    this.answers.push(turn);
  }

  accountOf(turn) {
    return accountOf(this.models, turn.decision?.tier, turn.usage);
  }

  /** Sums over all answers; `cost` and `saved` are null while no answer has a known one. */
  totals() {
    const sum = (values) => {
      const known = values.filter((value) => value !== null);
      return known.length ? known.reduce((total, value) => total + value, 0) : null;
    };
    const accounts = this.answers.map((turn) => this.accountOf(turn));
    const strong = this.answers.filter((turn) => turn.decision.tier === "strong").length;
    return {
      answers: this.answers.length,
      share: this.answers.length ? strong / this.answers.length : null,
      tokensIn: sum(this.answers.map((turn) => turn.usage?.prompt_tokens ?? null)),
      tokensOut: sum(this.answers.map((turn) => turn.usage?.completion_tokens ?? null)),
      cost: sum(accounts.map(({ cost }) => cost)),
      saved: sum(accounts.map(({ saved }) => saved)),
      uncounted: this.answers.filter((turn) => !turn.usage && turn.state !== "streaming").length,
    };
  }

  /** Of the messages that `router` scored, how many reach the threshold: `{strong, scored}`. */
  atThreshold(router, threshold) {
    const scores = this.scores(router);
    return { strong: scores.filter(({ score }) => score >= threshold).length, scored: scores.length };
  }

  /** The scores of this conversation's messages by one router, with the tier each went to. */
  scores(router) {
    return this.turns
      .filter(({ decision }) => decision && decision.score !== null && decision.router === router)
      .map(({ decision }) => ({ score: decision.score, tier: decision.tier }));
  }
}
