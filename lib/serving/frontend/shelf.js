// Pictures and answers that stay in the browser after the visit, if the visitor wants (IndexedDB).

const NAME = "who-is-it";
const STORE = "pictures";

export class Shelf {
  isOn = false;

  /** Gives what was kept, oldest first; nothing where a browser keeps nothing. */
  async all() {
    const entries = await this.run("readonly", (store) => store.getAll()).catch(() => []);
    this.isOn = entries.length > 0;
    return entries;
  }

  /** Keeps a picture, in the size that is shown, with its answers and what the visitor said of it. */
  async put({ id, name, shown: source, answers, truth, when }) {
    const { width, height } = await createImageBitmap(source);
    await this.run("readwrite", (store) => store.put({ id, name, answers, truth, when, picture: { source, width, height } }));
    this.isOn = true;
  }

  async clear() {
    await this.run("readwrite", (store) => store.clear());
    this.isOn = false;
  }

  async run(mode, action) {
    this.database ??= await settled(indexedDB.open(NAME), (request) => {
      request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: "id" });
    });
    return settled(action(this.database.transaction(STORE, mode).objectStore(STORE)));
  }
}

function settled(request, prepare = () => {}) {
  return new Promise((resolve, reject) => {
    Object.assign(request, { onsuccess: () => resolve(request.result), onerror: () => reject(request.error) });
    prepare(request);
  });
}
