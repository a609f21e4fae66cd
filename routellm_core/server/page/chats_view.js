// The list of chats: search, open, forget, take away as a file.

import { byId, button, element } from "./dom.js";
import { labelsOf } from "./conversation.js";
import { allChats, forgetChat } from "./store.js";

export class ChatsView {
  #chats = [];
  #current = null;
  #on;

  /** @param {{open: Function, forgotten: Function}} on told of what is chosen. */
  constructor(on) {
    this.#on = on;
    byId("search").addEventListener("input", () => this.#draw());
    byId("export").addEventListener("click", () => save("routellm-chats.json", JSON.stringify(this.#chats, null, 2)));
    byId("export-labels").addEventListener("click", () => {
      const lines = labelsOf(this.#chats).map((label) => JSON.stringify(label));
      save("routellm-labels.jsonl", lines.map((line) => `${line}\n`).join(""));
    });
  }

  /** Read the chats anew; `current` is the id of the one on the page. */
  async refresh(current) {
    this.#current = current;
    this.#chats = await allChats();
    this.#draw();
    return this.#chats;
  }

  #draw() {
    const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = this.#chats.filter((chat) => words.every((word) => textOf(chat).includes(word)));
    const rows = found.map((chat) => this.#row(chat));
    const none = element("li", { class: "hint" }, this.#chats.length ? "No chat has these words." : "None yet.");
    byId("chats").replaceChildren(...(rows.length ? rows : [none]));
    byId("export-labels").disabled = labelsOf(this.#chats).length === 0;
    byId("export").disabled = this.#chats.length === 0;
  }

  #row(chat) {
    const title = chat.title || "Untitled";
    const open = button(title, () => this.#on.open(chat), { class: "chat-link" });
    if (chat.id === this.#current) open.setAttribute("aria-current", "true");
    const forget = button("×", async () => {
      await forgetChat(chat.id);
      this.#on.forgotten(chat);
    });
    forget.setAttribute("aria-label", `Forget “${title}”`);
    return element("li", {}, open, forget);
  }
}

const textOf = (chat) =>
  chat.turns.flatMap(({ question, answers }) => [question, ...answers.map(({ text }) => text)]).join("\n").toLowerCase();

function save(name, content) {
  const url = URL.createObjectURL(new Blob([content], { type: "application/octet-stream" }));
  const link = element("a", { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
