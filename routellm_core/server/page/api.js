// The server's API, as any OpenAI client uses it. Addresses are relative, so that the page works behind a path prefix.

import { EventSourceParserStream } from "./vendor/eventsource-parser/stream.js";

/**
 * What went wrong, in the server's words where it has any. `status` is 0 where there was no answer; `needsKey` where the
 * server itself, not the model behind it, wants another key.
 */
export class ApiError extends Error {
  constructor(message, { status = 0, retryAfter = null, needsKey = false } = {}) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.retryAfter = retryAfter;
    this.needsKey = needsKey;
  }
}

const GONE = "The server does not answer. Is it still running? `routellm serve` starts it.";

async function call(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    throw error.name === "AbortError" ? error : new ApiError(GONE);
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

async function refusal(response) {
  const seconds = Number(response.headers.get("retry-after"));
  const details = {
    status: response.status,
    retryAfter: seconds > 0 ? Math.ceil(seconds) : null,
    needsKey: response.status === 401 && !response.headers.has("x-routellm-model"),
  };
  try {
    const { error } = await response.json();
    if (error?.message) return new ApiError(error.message, details);
  } catch {
    // not an envelope: a proxy's page, or nothing at all
  }
  return new ApiError(`The server answered ${response.status} ${response.statusText}`.trim() + ".", details);
}

export async function loadSettings() {
  return (await call("chat/settings", { cache: "no-store" })).json();
}

/** The decision that the headers carry; fields that the server did not send are null. */
function decisionOf(headers) {
  const text = (name) => {
    const value = headers.get(`x-routellm-${name}`);
    try {
      return value === null ? null : decodeURIComponent(value);
    } catch {
      return value;
    }
  };
  const number = (name) => {
    const value = Number.parseFloat(text(name));
    return Number.isFinite(value) ? value : null;
  };
  return {
    model: text("model"),
    tier: text("tier"),
    router: text("router"),
    reason: text("reason"),
    score: number("score"),
    threshold: number("threshold"),
  };
}

/**
 * Stream one answer.
 *
 * @param {object} request of a chat completion.
 * @param {?string} key of the server.
 * @param {AbortSignal} signal that ends it.
 * @param {{decided: Function, text: Function, thinking: Function}} on told as things come in.
 * @returns {Promise<{usage: ?object, finishReason: ?string}>}
 * @throws {ApiError} a refusal, an error in the middle, or an answer that breaks off.
 */
export async function streamAnswer(request, key, signal, on) {
  const response = await call("v1/chat/completions", {
    method: "POST",
    headers: { "Content-Type": "application/json", ...(key ? { Authorization: `Bearer ${key}` } : {}) },
    body: JSON.stringify({ ...request, stream: true, stream_options: { include_usage: true } }),
    signal,
  });
  on.decided(decisionOf(response.headers));
  const events = response.body.pipeThrough(new TextDecoderStream()).pipeThrough(new EventSourceParserStream());
  const reader = events.getReader();
  const result = { usage: null, finishReason: null };
  for (;;) {
    let next;
    try {
      next = await reader.read();
    } catch (error) {
      throw error.name === "AbortError" ? error : new ApiError("The connection broke off in the middle of the answer.");
    }
    if (next.done || next.value.data === "[DONE]") break;
    try {
      take(next.value.data, result, on);
    } catch (error) {
      reader.cancel().catch(() => {}); // nothing that follows an error is read
      throw error;
    }
  }
  if (result.finishReason === null) throw new ApiError("The answer broke off before its end.");
  return result;
}

function take(data, result, on) {
  let chunk;
  try {
    chunk = JSON.parse(data);
  } catch {
    throw new ApiError("The server sent something that is not JSON.");
  }
  if (chunk.error) throw new ApiError(chunk.error.message ?? "The model failed in the middle of its answer.");
  if (chunk.usage) result.usage = chunk.usage;
  const choice = chunk.choices?.[0];
  if (!choice) return;
  const text = choice.delta?.content ?? choice.delta?.refusal;
  const thoughts = choice.delta?.reasoning_content ?? choice.delta?.reasoning;
  if (thoughts) on.thinking(String(thoughts));
  if (text) on.text(text);
  result.finishReason = choice.finish_reason ?? result.finishReason;
}
