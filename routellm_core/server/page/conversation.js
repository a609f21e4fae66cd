// The conversation and what it has cost. Nothing here knows the page.

import { accountOf } from "./costs.js";

const ENDED = ["done", "stopped", "error"];

/** What a model said, and all that is known of it. `asked` is the name that was asked for. */
export const newAnswer = (asked) => ({
  asked,
  text: "",
  thoughts: "",
  decision: null,
  usage: null,
  finishReason: null,
  error: null,
  state: "waiting",
});

export class Conversation {
  /** @param {object} models of the settings: names and prices by tier. @param {?object} saved as `saved()` gave it. */
  constructor(models, saved = null) {
    this.models = models;
    this.id = saved?.id ?? crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`;
    this.created = saved?.created ?? Date.now();
    this.turns = saved?.turns ?? [];
    this.replaced = saved?.replaced ?? []; // answers of turns that were edited away, which were paid for as well
  }

  get last() {
    return this.turns.at(-1);
  }

  get title() {
    return this.turns[0]?.question.trim().split("\n")[0].slice(0, 80) || this.turns[0]?.files[0]?.name || "";
  }

  /** Every answer that has a decision. */
  get answers() {
    return [...this.replaced, ...this.turns.flatMap(({ answers }) => answers)].filter(({ decision }) => decision);
  }

  /** What is worth keeping over a reload. */
  saved() {
    const { id, created, turns, replaced, title } = this;
    const answers = turns.flatMap((turn) => turn.answers);
    const isOver = answers.every(({ state }) => ENDED.includes(state));
    return { id, created, title, turns, replaced, updated: Date.now(), isOver };
  }

  /** Begin a turn, in place of `instead` (the last one) where that was edited. */
  begin(question, files = [], instead = null) {
    if (instead) {
      this.turns.splice(this.turns.indexOf(instead), 1);
      this.replaced.push(...instead.answers);
    }
    const turn = { question, files, answers: [], shown: -1, beside: null, vote: null };
    this.turns.push(turn);
    return turn;
  }

  /** Begin an answer: a further one, which is shown, or one beside the one that is. */
  beginAnswer(turn, asked, { beside = false } = {}) {
    const answer = newAnswer(asked);
    const shown = turn.answers[turn.shown];
    if (!beside && shown?.error && !shown.text) {
      turn.answers[turn.shown] = answer; // there is nothing to keep of the one that failed
      return answer;
    }
    turn.answers.push(answer);
    if (beside) turn.beside = turn.answers.length - 1;
    else [turn.shown, turn.beside, turn.vote] = [turn.answers.length - 1, null, null];
    return answer;
  }

  /** The answer that the conversation goes on from: the one that was found better, else the one that is shown. */
  chosen(turn) {
    const pair = [turn.answers[turn.shown], turn.answers[turn.beside]].filter(Boolean);
    return pair.find(({ decision }) => decision?.tier === turn.vote) ?? pair[0];
  }

  /** The messages to send for a turn. Turns that got no answer are left out: what failed once would fail again. */
  messages(systemPrompt, turn = this.last) {
    const before = this.turns.slice(0, this.turns.indexOf(turn)).filter((each) => this.chosen(each)?.text.trim());
    return [
      ...(systemPrompt.trim() ? [{ role: "system", content: systemPrompt }] : []),
      ...before.flatMap((each) => [
        { role: "user", content: contentOf(each) },
        { role: "assistant", content: this.chosen(each).text },
      ]),
      { role: "user", content: contentOf(turn) },
    ];
  }

  /** Take a decision in: the tier, where the server did not say it, is read from the model's name. */
  decided(answer, decision) {
    const named = (tier) => this.models[tier].name === decision.model;
    const tier = decision.tier ?? (named("strong") ? "strong" : named("weak") ? "weak" : null);
    answer.decision = { ...decision, tier };
    answer.state = "streaming";
  }

  accountOf(answer) {
    return accountOf(this.models, answer.decision?.tier, answer.usage);
  }

  /** Sums over all answers; `cost` and `saved` are null while no answer has a known one. */
  totals() {
    const sum = (values) => {
      const known = values.filter((value) => value !== null);
      return known.length ? known.reduce((total, value) => total + value, 0) : null;
    };
    const { answers } = this;
    const accounts = answers.map((answer) => this.accountOf(answer));
    const strong = answers.filter(({ decision }) => decision.tier === "strong").length;
    return {
      answers: answers.length,
      share: answers.length ? strong / answers.length : null,
      tokensIn: sum(answers.map(({ usage }) => usage?.prompt_tokens ?? null)),
      tokensOut: sum(answers.map(({ usage }) => usage?.completion_tokens ?? null)),
      cost: sum(accounts.map(({ cost }) => cost)),
      saved: sum(accounts.map(({ saved }) => saved)),
      uncounted: answers.filter(({ usage, state }) => !usage && state !== "streaming").length,
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
      .map((turn) => turn.answers[turn.shown]?.decision)
      .filter((decision) => decision && decision.score !== null && decision.router === router)
      .map(({ score, tier }) => ({ score, tier }));
  }
}

function contentOf({ question, files }) {
  if (files.length === 0) return question;
  const texts = files.filter(({ text }) => text !== undefined).map(({ name, text }) => `${name}:\n\`\`\`\n${text}\n\`\`\``);
  const text = [question, ...texts].filter(Boolean).join("\n\n");
  const parts = files.filter(({ url }) => url).map(({ name, type, url }) =>
    type.startsWith("image/")
      ? { type: "image_url", image_url: { url } }
      : { type: "file", file: { filename: name, file_data: url } },
  );
  return parts.length ? [{ type: "text", text }, ...parts] : text;
}

/** What a person found of two answers, one label for each vote: what a router can be trained and judged on. */
export function labelsOf(chats) {
  return chats.flatMap(({ id, turns }) =>
    turns.filter(({ vote }) => vote).map((turn) => {
      const pair = [turn.answers[turn.shown], turn.answers[turn.beside]];
      const by = (tier) => pair.find((answer) => answer?.decision?.tier === tier);
      const decided = pair.find((answer) => answer?.decision?.score != null)?.decision;
      return {
        chat: id,
        prompt: turn.question,
        preferred: turn.vote,
        ...Object.fromEntries(
          ["strong", "weak"].flatMap((tier) => [
            [`${tier}_model`, by(tier)?.decision.model ?? null],
            [`${tier}_answer`, by(tier)?.text ?? null],
          ]),
        ),
        router: decided?.router ?? null,
        score: decided?.score ?? null,
        threshold: decided?.threshold ?? null,
      };
    }),
  );
}
