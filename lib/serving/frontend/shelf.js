// Pictures and answers that stay in the browser after the visit, if the visitor wants (IndexedDB).

import { Problem } from "./problem.js";

// Pages at other paths of a host are other pages.
const NAME = `who-is-it ${new URL("./", globalThis.document?.baseURI ?? "http://localhost").pathname}`;
const STORE = "pictures";
const FULL = "This browser keeps no more pictures: its storage is full or forbidden. Download the answers before you leave.";

export class Shelf {
  isOn = false;
  onCleared = () => {}; // called when another tab keeps nothing any more

  /** Gives what was kept, oldest first; nothing where a browser keeps nothing. */
  async all() {
    const entries = await this.run("readonly", (store) => store.getAll()).catch(() => []);
    this.isOn = entries.length > 0;
    return entries;
  }

  /** Keeps a picture, in the size that is shown, with its answers and what the visitor said of it. */
  async put({ id, name, sha256, shown: picture, answers, files, truth, when }) {
    await this.run("readwrite", (store) => store.put({ id, name, sha256, answers, files, truth, when, picture }));
    this.isOn = true;
  }

  remove(id) {
    return this.run("readwrite", (store) => store.delete(id));
  }

  async clear() {
    await this.run("readwrite", (store) => store.clear());
    this.isOn = false;
    this.tabs?.postMessage("cleared");
  }

  /** Connects to the other tabs with this page. */
  listen() {
    const tabs = new BroadcastChannel(NAME);
    tabs.onmessage = () => {
      this.isOn = false;
      this.onCleared();
    };
    return tabs;
  }

  /** Reads or writes; throws a `Problem` where the browser does not. */
  async run(mode, action) {
    try {
      this.database ??= await opened();
      this.tabs ??= this.listen();
      const transaction = this.database.transaction(STORE, mode);
      const request = action(transaction.objectStore(STORE));
      // What is written counts when all of it is on the disk.
      await settled(transaction, "oncomplete", "onabort");
      return request.result;
    } catch (problem) {
      console.error(problem);
      this.isOn = false;
      this.database = null; // which the browser may have closed; the next try opens it anew
      throw new Problem(FULL);
    }
  }
}

async function opened() {
  const request = indexedDB.open(NAME);
  request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: "id" });
  await settled(request, "onsuccess", "onerror");
  return request.result;
}

function settled(one, done, failed) {
  return new Promise((resolve, reject) => {
    one[done] = resolve;
    one[failed] = () => reject(one.error);
  });
}
