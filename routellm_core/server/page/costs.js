// What an answer cost, and what it would have cost at the strong model: list prices times the tokens that were used.

/** Dollars of so many tokens, or null where the price is not known. */
export function costOf(price, usage) {
  if (!price || price.input_cost_per_token == null || price.output_cost_per_token == null || !usage) return null;
  return usage.prompt_tokens * price.input_cost_per_token + usage.completion_tokens * price.output_cost_per_token;
}

/** `{cost, saved}` in dollars; either is null where a price is not known. */
export function accountOf(models, tier, usage) {
  const cost = costOf(models[tier], usage);
  const atStrong = costOf(models.strong, usage);
  return { cost, saved: cost === null || atStrong === null ? null : atStrong - cost };
}
