// The page's conductor: one message after the other goes out, and what comes back is shown and kept.

import { ApiError, loadSettings, streamAnswer } from "./api.js";
import { Attachments } from "./attachments.js";
import { ChatsView } from "./chats_view.js";
import { Controls } from "./controls.js";
import { Conversation } from "./conversation.js";
import { byId, button, element } from "./dom.js";
import { askForKey, storedKey } from "./key.js";
import { chosenParameters } from "./parameters.js";
import { Scrolling } from "./scrolling.js";
import { keepChat } from "./store.js";
import { showTotals } from "./totals_view.js";
import { TurnView } from "./turn_view.js";

const prompt = byId("prompt");
const scrolling = new Scrolling();
const hasTouch = matchMedia("(pointer: coarse)");
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
  restore();
  if (settings.needs_key && !storedKey()) await askForKey();
  prompt.focus();
}

async function restore() {
  const kept = (await chats.refresh(null)).find(({ id }) => id === history.state?.chat);
  if (kept && conversation.turns.length === 0 && !running) openChat(kept);
}

/** Remember which chat is open: with this entry of the browser's history, which a reload keeps. */
const remember = (chat) => history.replaceState({ chat }, "");

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

async function keep() {
  const { isOver, ...chat } = conversation.saved();
  if (!isOver || chat.turns.length === 0) return;
  remember(chat.id);
  await keepChat(chat);
  await chats.refresh(conversation.id);
}

const say = (text) => {
  byId("status").textContent = text;
};

const attachments = new Attachments(say);
const chats = new ChatsView({
  open: openChat,
  forgotten(chat) {
    if (chat.id === conversation?.id) newChat();
    else chats.refresh(conversation?.id);
  },
});

function setRunning(controller) {
  running = controller;
  byId("send").hidden = running !== null;
  byId("stop").hidden = running === null;
}

async function ask(question, files = [], instead = null) {
  if (running || !controls || !(question.trim() || files.length)) return;
  stopEditing();
  if (instead) view.remove();
  else view?.settle();
  byId("empty").hidden = true;
  const turn = conversation.begin(question, files, instead);
  view = viewOf(turn);
  byId("turns").append(view.node);
  scrolling.toEnd();
  await answer(turn, view);
}

function viewOf(turn) {
  const made = new TurnView(turn, {
    drawn: () => scrolling.follow(),
    retry: () => answer(turn, made),
    other: (tier) => answer(turn, made, { asked: settings.models[tier].name, beside: true }),
    edit: () => edit(turn),
    askKey: () => askAgainWithKey(turn, made),
    changed: () => {
      showFigures();
      keep();
    },
  });
  return made;
}

async function answer(turn, shown, { asked = controls.modelName, beside = false } = {}) {
  if (running) return;
  const controller = new AbortController();
  const chat = conversation;
  const begun = chat.beginAnswer(turn, asked, { beside });
  setRunning(controller);
  shown.draw();
  const part = shown.view(begun);
  say("Choosing a model");
  const request = {
    ...chosenParameters(),
    model: asked,
    messages: chat.messages(controls.systemPrompt, turn),
  };
  try {
    const ended = await streamAnswer(request, storedKey(), controller.signal, {
      decided(decision) {
        chat.decided(begun, decision);
        part.decided(settings);
        shown.draw();
        say(`${begun.decision.model ?? "The model"} answers${begun.decision.tier ? ` (${begun.decision.tier})` : ""}`);
        showFigures();
        controls.redraw();
      },
      text(text) {
        begun.text += text;
        part.text(text);
      },
      thinking(text) {
        begun.thoughts += text;
        part.thinking(text);
      },
    });
    Object.assign(begun, ended, { state: "done" });
  } catch (error) {
    fail(begun, error);
  }
  part.ended(settings);
  shown.draw();
  if (running === controller) setRunning(null);
  if (chat === conversation) {
    say(begun.error ? "The answer failed" : begun.state === "stopped" ? "Stopped" : "The answer is complete");
    showFigures();
    scrolling.follow();
    await keep();
  }
}

function fail(begun, error) {
  if (error.name === "AbortError") {
    begun.state = "stopped";
    return;
  }
  const { message, needsKey, retryAfter } = error instanceof ApiError ? error : new ApiError(`The page failed: ${error.message}`);
  Object.assign(begun, { state: "error", error: { message, needsKey, retryAfter } });
}

async function askAgainWithKey(turn, shown) {
  const refused = storedKey() ? "The server did not accept the key. A new one stays in this tab." : undefined;
  if (await askForKey(refused)) await answer(turn, shown);
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
  attachments.set(turn.files);
  fitPrompt();
  prompt.focus();
}

function stopEditing() {
  editing = null;
  byId("editing").hidden = true;
}

function newChat() {
  leaveChat();
  remember(null);
  if (settings) {
    conversation = new Conversation(settings.models);
    controls.redraw();
    showFigures();
    chats.refresh(null);
  }
  say("New chat");
  prompt.focus();
}

function leaveChat() {
  running?.abort();
  setRunning(null); // the old answer's end is no longer this page's business
  view = null;
  stopEditing();
  byId("turns").replaceChildren();
  byId("empty").hidden = false;
}

function openChat(chat) {
  leaveChat();
  conversation = new Conversation(settings.models, structuredClone(chat));
  byId("empty").hidden = conversation.turns.length > 0;
  for (const turn of conversation.turns) {
    view?.settle();
    view = viewOf(turn);
    byId("turns").append(view.node);
    view.restore(settings);
  }
  remember(chat.id);
  controls.redraw();
  showFigures();
  showControls(false);
  scrolling.toEnd();
  chats.refresh(chat.id);
}

function send() {
  const question = prompt.value;
  if (running || !controls || !(question.trim() || attachments.files.length)) return;
  const instead = editing;
  prompt.value = "";
  fitPrompt();
  ask(question, attachments.take(), instead);
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
    // On a phone it makes a line, as everywhere there: a key for it with Shift does not exist.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || hasTouch.matches) return;
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
  attachments.set([]);
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
