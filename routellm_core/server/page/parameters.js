// The few parameters of a call that are worth turning by hand. What is left empty is the model's own choice.

import { byId } from "./dom.js";

const NUMBERS = { temperature: Number.parseFloat, top_p: Number.parseFloat, max_tokens: (text) => Number.parseInt(text, 10) };

/** What to send beside the messages. */
export function chosenParameters() {
  const chosen = {};
  for (const [name, read] of Object.entries(NUMBERS)) {
    const field = byId(name);
    const value = read(field.value);
    const fits = field.value.trim() === "" || (Number.isFinite(value) && field.checkValidity());
    field.setAttribute("aria-invalid", String(!fits));
    if (fits && Number.isFinite(value)) chosen[name] = value;
  }
  if (byId("reasoning_effort").value) chosen.reasoning_effort = byId("reasoning_effort").value;
  return chosen;
}
