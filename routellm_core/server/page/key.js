// The server's key: asked for when it is needed, kept in this tab only.

import { byId } from "./dom.js";

const KEY = "routellm.key";
let kept = null; // where the browser has no session storage

export function storedKey() {
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return kept;
  }
}

function keep(key) {
  kept = key;
  try {
    sessionStorage.setItem(KEY, key);
  } catch {
    // `kept` serves until the page is left
  }
}

/** Ask for a key. Resolves to true once there is a new one, to false when the person declines. */
export function askForKey(reason = "It stays in this tab and is forgotten when you close it.") {
  const dialog = byId("key-dialog");
  if (dialog.open) return Promise.resolve(false);
  byId("key-reason").textContent = reason;
  byId("key").value = "";
  dialog.showModal();
  return new Promise((resolve) => {
    let given = false;
    byId("key-form").onsubmit = (event) => {
      event.preventDefault();
      keep(byId("key").value.trim());
      given = true;
      dialog.close();
    };
    byId("key-cancel").onclick = () => dialog.close();
    dialog.onclose = () => {
      byId("key").value = "";
      resolve(given);
    };
  });
}
