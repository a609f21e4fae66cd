// Scores of ordinary traffic: from thresholds to shares and back, and the axis that scores are drawn on.
// `quantiles` are ascending scores at evenly spaced shares of the traffic.

// Most scores of most routers lie close to 0: a square root gives them room, and its ends stay at 0 and 1.
export const toAxis = (score) => Math.sqrt(Math.min(1, Math.max(0, score)));
export const fromAxis = (position) => position * position;

/** The share of ordinary traffic whose score reaches the threshold, in [0, 1]. */
export function shareAtThreshold(quantiles, threshold) {
  const above = quantiles.findIndex((score) => score >= threshold);
  if (above === 0) return 1;
  if (above < 0) return 0;
  const [low, high] = [quantiles[above - 1], quantiles[above]];
  const position = above - 1 + (threshold - low) / (high - low);
  return 1 - position / (quantiles.length - 1);
}

/** The threshold that sends that share to the strong model. */
export function thresholdForShare(quantiles, share) {
  if (share >= 1) return 0;
  if (share <= 0) return 1;
  const position = (1 - share) * (quantiles.length - 1);
  const below = Math.floor(position);
  const above = Math.min(below + 1, quantiles.length - 1);
  return quantiles[below] + (position - below) * (quantiles[above] - quantiles[below]);
}

/** Heights in [0, 1] of the traffic's density over `bins` equal steps of the axis. */
export function density(quantiles, bins) {
  const beyond = Array.from({ length: bins + 1 }, (_, edge) => shareAtThreshold(quantiles, fromAxis(edge / bins)));
  beyond[bins] = 0; // a score of 1 lies in the last step
  let heights = beyond.slice(1).map((share, bin) => beyond[bin] - share);
  for (let pass = 0; pass < 2; pass += 1) {
    heights = heights.map((height, i) => ((heights[i - 1] ?? 0) + 2 * height + (heights[i + 1] ?? 0)) / 4);
  }
  const highest = Math.max(...heights);
  return heights.map((height) => height / highest);
}

/** Read a threshold as people write it: 0.116, or a share such as "50%" where quantiles are known. Else null. */
export function parseThreshold(written, quantiles) {
  const text = String(written ?? "").trim();
  if (/^\d+(\.\d+)?%$/.test(text)) {
    const share = Number(text.slice(0, -1)) / 100;
    return quantiles && share <= 1 ? rounded(thresholdForShare(quantiles, share)) : null;
  }
  const number = text === "" ? NaN : Number(text);
  return number >= 0 && number <= 1 ? number : null;
}

export const rounded = (threshold) => Number(threshold.toFixed(4));
