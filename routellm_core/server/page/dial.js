// The scale of scores, large as the threshold's dial and small beside an answer. Positions go through one axis.

import { density, fromAxis, rounded, toAxis } from "./distribution.js";
import { element, svgElement } from "./dom.js";
import * as format from "./format.js";

const [WIDTH, HEIGHT, BASE] = [320, 72, 60];
const BINS = 64;
const TICKS = [0, 0.1, 0.2, 0.4, 0.6, 0.8, 1];
export const STEPS = 1000;

export const stepOf = (threshold) => Math.round(toAxis(threshold) * STEPS);
export const thresholdOf = (step) => rounded(fromAxis(step / STEPS));
const percentOf = (score) => `${toAxis(score) * 100}%`;

/** Draw ordinary traffic's density, split at the threshold, and this chat's own scores as marks under it. */
export function drawDial(plot, { quantiles, threshold, marks }) {
  const at = toAxis(threshold) * WIDTH;
  const area = (tier, x, width) =>
    svgElement(
      "svg",
      { x, y: 0, width: Math.max(width, 0), height: HEIGHT, viewBox: `${x} 0 ${Math.max(width, 0.01)} ${HEIGHT}`, preserveAspectRatio: "none" },
      svgElement("path", { class: `area ${tier}`, d: outline(quantiles) }),
    );
  plot.replaceChildren(
    area("weak", 0, at),
    area("strong", at, WIDTH - at),
    svgElement("line", { class: "base weak", x1: 0, x2: at, y1: BASE, y2: BASE }),
    svgElement("line", { class: "base strong", x1: at, x2: WIDTH, y1: BASE, y2: BASE }),
    ...marks.map(({ score, tier }) => {
      const x = toAxis(score) * WIDTH;
      return svgElement("line", { class: `mark ${tier}`, x1: x, x2: x, y1: BASE + 4, y2: HEIGHT });
    }),
    svgElement("line", { class: "needle", x1: at, x2: at, y1: 0, y2: BASE }),
  );
}

function outline(quantiles) {
  if (!quantiles) return `M0 ${BASE}V${BASE - 10}H${WIDTH}V${BASE}Z`; // nothing known: a flat band
  const points = density(quantiles, BINS).map((height, bin) => {
    const x = ((bin + 0.5) / BINS) * WIDTH;
    return `L${x.toFixed(1)} ${(BASE - height * (BASE - 8)).toFixed(1)}`;
  });
  return `M0 ${BASE}${points.join("")}L${WIDTH} ${BASE}Z`;
}

export function drawTicks(container) {
  container.replaceChildren(
    ...TICKS.map((score) => {
      const tick = element("span", {}, String(score).replace(/^0\./, "."));
      tick.style.setProperty("left", percentOf(score));
      return tick;
    }),
  );
}

/** The small scale: where the answer's score lies, and the threshold that it was compared with. */
export function scoreScale({ score, threshold, tier }) {
  const described = threshold === null ? "" : `, threshold ${format.score(threshold)}`;
  const split = threshold === null ? "50%" : percentOf(threshold);
  return svgElement(
    "svg",
    { class: "scale", role: "img", "aria-label": `Score ${format.score(score)} on a scale from 0 to 1${described}` },
    svgElement("line", { class: "base weak", x1: "0", x2: split, y1: 12, y2: 12 }),
    svgElement("line", { class: "base strong", x1: split, x2: "100%", y1: 12, y2: 12 }),
    svgElement("circle", { class: `dot ${tier}`, cx: percentOf(score), cy: 12, r: 6 }),
    // On top: a score close to the threshold must not hide on which side it lies.
    ...(threshold === null ? [] : [svgElement("line", { class: "needle", x1: split, x2: split, y1: 1, y2: 23 })]),
  );
}
