// The page's conductor: one message after the other goes out, and what comes back is shown.

import { ApiError, loadSettings, streamAnswer } from "./api.js";
import { Controls } from "./controls.js";
import { Conversation } from "./conversation.js";
import { byId, button, element } from "./dom.js";
import { askForKey, storedKey } from "./key.js";
import { Scrolling } from "./scrolling.js";
import { showTotals } from "./totals_view.js";
import { TurnView } from "./turn_view.js";

const prompt = byId("prompt");
const scrolling = new Scrolling();
let settings = null;
let conversation = null;
let controls = null;
let view = null; // of the last turn
let running = null; // AbortController of the answer that is under way
let editing = null; // the turn whose question is in the message box

async function start() {
  try {
    settings = await loadSettings();
  } catch (error) {
    showStartFault(error);
    return;
  }
  byId("start-fault").hidden = true;
  conversation = new Conversation(settings.models);
  controls = new Controls(settings, showFigures);
  controls.scores = (router) => conversation.scores(router);
  byId("change-key").hidden = !settings.needs_key;
  showFirstWords();
  showFigures();
  if (settings.needs_key && !storedKey()) await askForKey();
  prompt.focus();
}

function showStartFault(error) {
  const fault = byId("start-fault");
  byId("empty-text").textContent = "";
  fault.replaceChildren(element("p", {}, error.message), button("Try again", start));
  fault.hidden = false;
}

function showFirstWords() {
  const { strong, weak } = settings.models;
  byId("empty-text").textContent =
    `A router estimates how likely ${strong.name} is to give the better answer than ${weak.name}. ` +
    "From the threshold on, a message goes to the strong model; below it, to the weak one.";
  byId("examples").hidden = false;
}

function showFigures() {
  if (!conversation) return;
  showTotals(conversation, controls);
  byId("model-name").textContent = controls.modelName;
}

const say = (text) => {
  byId("status").textContent = text;
};

function setRunning(controller) {
  running = controller;
  byId("send").hidden = running !== null;
  byId("stop").hidden = running === null;
}

async function ask(question, instead = null) {
  if (running || !controls || !question.trim()) return;
  stopEditing();
  if (instead) view.remove();
  else view?.settle();
  byId("empty").hidden = true;
  const turn = conversation.begin(question, instead);
  view = new TurnView(turn, {
    drawn: () => scrolling.follow(),
    retry: () => ask(turn.question, turn),
    edit: () => edit(turn),
    askKey: () => askAgainWithKey(turn),
  });
  byId("turns").append(view.node);
  scrolling.toEnd();
  await answer(turn, view);
}

async function answer(turn, shown) {
  const controller = new AbortController();
  const chat = conversation;
  setRunning(controller);
  say("Choosing a model");
  const request = {
    model: controls.modelName,
    messages: conversation.messages(controls.systemPrompt),
    key: storedKey(),
    signal: controller.signal,
  };
  try {
    const ended = await streamAnswer(request, {
      decided(decision) {
        chat.decided(turn, decision);
        shown.decided(settings);
        say(`${turn.decision.model ?? "The model"} answers${turn.decision.tier ? ` (${turn.decision.tier})` : ""}`);
        showFigures();
        controls.redraw();
      },
      text(text) {
        turn.answer += text;
        shown.text(text);
      },
      thinking: () => shown.thinking(),
    });
    Object.assign(turn, ended, { state: "done" });
  } catch (error) {
    fail(turn, error);
  }
  shown.ended(settings);
  if (running === controller) setRunning(null);
  if (chat === conversation) {
    say(turn.error ? "The answer failed" : turn.state === "stopped" ? "Stopped" : "The answer is complete");
    showFigures();
    scrolling.follow();
  }
}

function fail(turn, error) {
  if (error.name === "AbortError") {
    turn.state = "stopped";
    return;
  }
  turn.state = "error";
  turn.error = error instanceof ApiError ? error : new ApiError(`The page failed: ${error.message}`);
}

async function askAgainWithKey(turn) {
  const refused = storedKey() ? "The server did not accept the key. A new one stays in this tab." : undefined;
  if (await askForKey(refused)) await ask(turn.question, turn);
  prompt.focus();
}

function stop() {
  running?.abort();
  prompt.focus();
}

function edit(turn) {
  editing = turn;
  byId("editing").hidden = false;
  prompt.value = turn.question;
  fitPrompt();
  prompt.focus();
}

function stopEditing() {
  editing = null;
  byId("editing").hidden = true;
}

function newChat() {
  running?.abort();
  setRunning(null); // the old answer's end is no longer this page's business
  view = null;
  stopEditing();
  byId("turns").replaceChildren();
  byId("empty").hidden = false;
  if (settings) {
    conversation = new Conversation(settings.models);
    controls.redraw();
    showFigures();
  }
  say("New chat");
  prompt.focus();
}

function send() {
  const question = prompt.value;
  if (running || !controls || !question.trim()) return;
  const instead = editing;
  prompt.value = "";
  fitPrompt();
  ask(question, instead);
}

function fitPrompt() {
  prompt.style.height = "auto";
  prompt.style.height = `${prompt.scrollHeight}px`;
}

function listen() {
  byId("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });
  prompt.addEventListener("input", fitPrompt);
  prompt.addEventListener("keydown", (event) => {
    // While an input method composes, Enter belongs to it.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    send();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || byId("key-dialog").open) return;
    if (running) stop();
    else if (editing) cancelEdit();
    else if (byId("show-controls").getAttribute("aria-expanded") === "true") showControls(false);
  });
  byId("stop").addEventListener("click", stop);
  byId("new-chat").addEventListener("click", newChat);
  byId("cancel-edit").addEventListener("click", cancelEdit);
  byId("change-key").addEventListener("click", () => askForKey());
  byId("show-controls").addEventListener("click", (event) => {
    showControls(event.currentTarget.getAttribute("aria-expanded") !== "true");
  });
  for (const example of byId("examples").querySelectorAll("button")) {
    example.addEventListener("click", () => {
      prompt.value = example.textContent;
      fitPrompt();
      prompt.focus();
    });
  }
}

function cancelEdit() {
  stopEditing();
  prompt.value = "";
  fitPrompt();
  prompt.focus();
}

function showControls(shown) {
  byId("show-controls").setAttribute("aria-expanded", String(shown));
  byId("controls").classList.toggle("shown", shown);
  if (!shown) prompt.focus();
}

listen();
start();
