// Chats, kept in this browser. Where it has no place for them, the page works without.

const NAME = "routellm";
const CHATS = "chats";

let opened = null;

function open() {
  opened ??= new Promise((resolve, reject) => {
    const request = indexedDB.open(NAME, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(CHATS, { keyPath: "id" });
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  return opened;
}

async function within(mode, use) {
  const database = await open();
  return new Promise((resolve, reject) => {
    const transaction = database.transaction(CHATS, mode);
    const request = use(transaction.objectStore(CHATS));
    transaction.oncomplete = () => resolve(request.result);
    transaction.onerror = transaction.onabort = () => reject(transaction.error);
  });
}

const orElse = (promise, value) => promise.catch(() => value);

/** All chats, the one that was changed last first. */
export const allChats = async () =>
  (await orElse(within("readonly", (store) => store.getAll()), [])).sort((a, b) => b.updated - a.updated);

/** Keep a chat. Resolves to false where the browser does not. */
export const keepChat = (chat) => orElse(within("readwrite", (store) => store.put(structuredClone(chat))).then(() => true), false);

export const forgetChat = (id) => orElse(within("readwrite", (store) => store.delete(id)), null);
