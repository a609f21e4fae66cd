// The panel: who answers, which router, from which threshold on. What is chosen also stands in the page's address.

import { STEPS, drawDial, drawTicks, stepOf, thresholdOf } from "./dial.js";
import { parseThreshold, rounded, shareAtThreshold, thresholdForShare } from "./distribution.js";
import { byId, button, element } from "./dom.js";
import * as format from "./format.js";

const SHARES = [0.1, 0.25, 0.5, 0.75];
const AUTO = "auto";
const MIDDLE = 0.5; // the share, or where that is not known the threshold, of a server without a default of its own

export class Controls {
  #settings;
  #changed;
  #scores = () => [];
  mode = "route";
  router;
  threshold;

  /** @param {object} settings of the server. @param {Function} changed called after every choice. */
  constructor(settings, changed) {
    this.#settings = settings;
    this.#changed = changed;
    this.#fill();
    this.#listen();
    this.#readAddress();
    this.#update();
  }

  /** Where the dial finds the scores of the conversation: `scores(router)`. */
  set scores(source) {
    this.#scores = source;
    this.redraw();
  }

  get quantiles() {
    return this.#settings.routers.find(({ name }) => name === this.router)?.quantiles ?? null;
  }

  get systemPrompt() {
    return byId("system").value;
  }

  /** The model's name to ask for, which is also what any other client of this server would write. */
  get modelName() {
    if (this.mode !== "route") return this.#settings.models[this.mode].name;
    return this.router === AUTO ? AUTO : `router-${this.router}-${this.threshold}`;
  }

  #fill() {
    for (const tier of ["strong", "weak"]) {
      document.querySelector(`[data-model="${tier}"]`).textContent = this.#settings.models[tier].name;
    }
    const names = this.#settings.routers.map(({ name }) => element("option", { value: name }, name));
    byId("router").replaceChildren(...names, element("option", { value: AUTO }, "auto (the server’s choice)"));
    byId("presets").replaceChildren(
      ...SHARES.map((share) =>
        button(format.percent(share), () => this.#choose({ threshold: this.#thresholdOfShare(share) }), {
          "aria-label": `${format.percent(share)} of ordinary traffic to the strong model`,
        }),
      ),
    );
    byId("dial").max = STEPS;
    drawTicks(document.querySelector(".dial-ticks"));
  }

  #thresholdOfShare(share) {
    return rounded(thresholdForShare(this.quantiles, share));
  }

  #listen() {
    for (const radio of document.querySelectorAll('input[name="mode"]')) {
      radio.addEventListener("change", () => this.#choose({ mode: radio.value }));
    }
    byId("router").addEventListener("change", (event) => this.#chooseRouter(event.target.value));
    byId("dial").addEventListener("input", (event) => this.#choose({ threshold: thresholdOf(Number(event.target.value)) }));
    byId("threshold").addEventListener("input", (event) => {
      const threshold = parseThreshold(event.target.value, this.quantiles);
      event.target.setAttribute("aria-invalid", String(threshold === null));
      if (threshold !== null) this.#choose({ threshold }, event.target);
    });
    byId("threshold").addEventListener("blur", () => this.#update());
    window.addEventListener("hashchange", () => {
      this.#readAddress();
      this.#update();
      this.#changed();
    });
  }

  // Another router's scores mean something else: what is kept is the share of traffic, where both routers know it.
  #chooseRouter(router) {
    const before = this.quantiles;
    const share = before ? shareAtThreshold(before, this.threshold) : null;
    this.router = router;
    const kept = share !== null && this.quantiles;
    this.#choose({ threshold: kept ? this.#thresholdOfShare(share) : this.threshold });
  }

  #choose(choice, typedIn = null) {
    Object.assign(this, choice);
    this.#update(typedIn);
    this.#writeAddress();
    this.#changed();
  }

  #readAddress() {
    const chosen = new URLSearchParams([...new URLSearchParams(location.search), ...new URLSearchParams(location.hash.slice(1))]);
    const last = (name) => chosen.getAll(name).at(-1);
    const known = [...this.#settings.routers.map(({ name }) => name), AUTO];
    this.router = known.includes(last("router")) ? last("router") : (this.router ?? this.#settings.default_router);
    const middle = this.quantiles ? this.#thresholdOfShare(MIDDLE) : MIDDLE;
    const fallback = this.threshold ?? parseThreshold(this.#settings.default_threshold, this.quantiles) ?? middle;
    this.threshold = parseThreshold(last("threshold"), this.quantiles) ?? fallback;
    if (["route", "strong", "weak"].includes(last("mode"))) this.mode = last("mode");
  }

  #writeAddress() {
    const chosen = new URLSearchParams({ router: this.router, threshold: this.threshold });
    if (this.mode !== "route") chosen.set("mode", this.mode);
    history.replaceState(history.state, "", `${location.pathname}#${chosen}`);
  }

  #update(typedIn = null) {
    document.querySelector(`input[name="mode"][value="${this.mode}"]`).checked = true;
    byId("router").value = this.router;
    byId("routing-panel").inert = this.mode !== "route";
    byId("threshold-fields").hidden = this.router === AUTO;
    const field = byId("threshold");
    if (field !== typedIn) {
      field.value = this.threshold;
      field.setAttribute("aria-invalid", "false");
    }
    const share = this.quantiles ? shareAtThreshold(this.quantiles, this.threshold) : null;
    const dial = byId("dial");
    dial.value = stepOf(this.threshold);
    const said = share === null ? "" : `, about ${format.percent(share)} of ordinary traffic to strong`;
    dial.setAttribute("aria-valuetext", `${this.threshold}${said}`);
    byId("presets").hidden = share === null;
    byId("share").replaceChildren(...this.#shareText(share));
    byId("model-name").textContent = this.modelName;
    this.redraw();
  }

  #shareText(share) {
    if (share === null) return ["Scores from this threshold on go to strong. What share that is has not been measured for this router."];
    return ["About ", element("b", {}, format.percent(share)), " of ordinary traffic goes to strong."];
  }

  redraw() {
    drawDial(document.querySelector(".dial-plot"), {
      quantiles: this.quantiles,
      threshold: this.threshold,
      marks: this.#scores(this.router),
    });
  }
}
