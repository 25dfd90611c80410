import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import vm from "node:vm";
import { gzipSync } from "node:zlib";

import { open } from "../../lib/serving/frontend/download.js";
import { Shelf } from "../../lib/serving/frontend/shelf.js";

const FRONTEND = new URL("../../lib/serving/frontend/", import.meta.url);

/** Lets the service worker of version 2 do something, with what it calls in its world. */
async function serviceWorker(event, given, details = {}) {
  const listeners = {};
  const world = {
    PREFIX: "who-is-it-",
    VERSION: "who-is-it-2",
    FILES: ["./", "page.js"],
    LARGE: ["network.tflite.gz"],
    registration: { scope: "https://host/" },
    skipWaiting: () => {},
    clients: { claim: () => {} },
    ...given,
    Request: class {
      constructor(url, { cache }) {
        Object.assign(this, { url, cache });
      }
    },
    addEventListener: (name, listener) => (listeners[name] = listener),
  };
  vm.runInNewContext(readFileSync(new URL("service_worker.js", FRONTEND), "utf8"), world);
  let done;
  listeners[event]({ waitUntil: (promise) => (done = promise), ...details });
  await done;
}

test("the copy for visits without a network comes from the host, not from the browser's cache", async () => {
  const added = [];
  await serviceWorker("install", { caches: { open: async () => ({ addAll: async (requests) => added.push(...requests) }) } });
  assert.deepEqual(added.map(({ url, cache }) => [url, cache]), [["./", "reload"], ["page.js", "reload"]]);
});

test("a page that is replaced keeps the large files that the visitor has, anew where their names are no digests", async () => {
  const kept = [];
  const cache = { addAll: async () => {}, put: async (name, response) => kept.push([name, response]) };
  const caches = { open: async () => cache, match: async (name) => (name.includes("other") ? undefined : "as before") };
  const LARGE = ["networks/1.tflite.gz", "networks/other.tflite.gz", "litert/runtime.wasm.gz"];
  await serviceWorker("install", { caches, LARGE, fetch: async ({ url, cache: how }) => `${url} ${how}` });
  const runtime = ["litert/runtime.wasm.gz", "litert/runtime.wasm.gz reload"];
  assert.deepEqual(kept, [["networks/1.tflite.gz", "as before"], runtime]);
});

test("an address that ends in index.html is the page, and a damaged profile does not break the visit", async () => {
  const asked = async (url, caches) => {
    let answer;
    const request = { method: "GET", url };
    await serviceWorker("fetch", { caches, fetch: async () => "from the host" }, { request, respondWith: (given) => (answer = given) });
    return answer;
  };
  const cache = { match: async (url) => (url === "https://host/" ? "kept" : undefined) };
  assert.equal(await asked("https://host/index.html", { open: async () => cache }), "kept");
  assert.equal(await asked("https://host/", { open: async () => Promise.reject(new Error("damaged")) }), "from the host");
});

test("an older copy is removed, and none of a page at another path of the host", async () => {
  const names = ["1 https://host/", "2 https://host/", "1 https://host/path/"].map((name) => `who-is-it-${name}`);
  const removed = [];
  const caches = { keys: async () => [...names, "another https://host/"], delete: async (name) => removed.push(name) };
  await serviceWorker("activate", { caches });
  assert.deepEqual(removed, names.slice(0, 1));
});

test("a large file is asked of the host whether it is still the same, and may come unpacked", async (context) => {
  const headers = { "Content-Encoding": "gzip" }; // as some hosts declare it, so that the browser has unpacked it
  const fetched = context.mock.method(globalThis, "fetch", async () => new Response("abc", { headers }));
  const bytes = [];
  assert.equal(await new Response(await open("a.wasm", "v", (count) => bytes.push(count))).text(), "abc");
  assert.deepEqual([fetched.mock.calls[0].arguments, bytes], [["a.wasm.gz", { cache: "no-cache" }], [3]]);
});

test("a browser that cannot unpack asks for the file itself", async (context) => {
  const fetched = context.mock.method(globalThis, "fetch", async () => new Response("abc"));
  const { DecompressionStream } = globalThis;
  delete globalThis.DecompressionStream;
  context.after(() => Object.assign(globalThis, { DecompressionStream }));
  assert.equal(await new Response(await open("a.wasm", "v", () => {})).text(), "abc");
  assert.equal(fetched.mock.calls[0].arguments[0], "a.wasm");
});

test("a large file is kept once it was read, and a damaged one is not, or it would come again", async (context) => {
  const kept = [];
  const cache = { match: async () => undefined, put: (url) => (kept.push(url), new Promise(() => {})) };
  globalThis.caches = { open: async () => cache };
  context.after(() => delete globalThis.caches);
  const packed = gzipSync("abc");
  const sent = { "sound.gz": packed, "cut.gz": packed.subarray(0, -4), "portal.gz": "<p>Please sign in.</p>" };
  context.mock.method(globalThis, "fetch", async (url) => new Response(sent[url]));
  assert.equal(await new Response(await open("sound", "v", () => {})).text(), "abc");
  for (const name of ["cut", "portal"]) await assert.rejects(new Response(await open(name, "v", () => {})).text());
  assert.deepEqual(kept, ["sound.gz"]);
});

test("a browser that may store nothing reads all the same", async (context) => {
  globalThis.caches = { open: () => Promise.reject(new DOMException("Forbidden.", "SecurityError")) };
  context.after(() => delete globalThis.caches);
  context.mock.method(globalThis, "fetch", async () => new Response(gzipSync("abc")));
  assert.equal(await new Response(await open("a.wasm", "v", () => {})).text(), "abc");
});

test("a worker that cannot load the recogniser answers all the same", async () => {
  // Beside the source there is no `about.js`, without which the recogniser does not load.
  const answered = new Promise((resolve) => (globalThis.postMessage = resolve));
  const listening = new Promise((resolve) => (globalThis.addEventListener = (_, listener) => resolve(listener)));
  await import(new URL("worker.js", FRONTEND));
  (await listening)({ data: { id: 7, ask: "look" } });
  const { id, problem, reload } = await answered;
  assert.deepEqual([id, reload], [7, true]);
  assert.match(problem, /could not be loaded/);
});

/** Stands in for what connects the tabs of a browser. */
globalThis.BroadcastChannel = class Tabs {
  static all = [];
  constructor() {
    Tabs.all.push(this);
  }
  postMessage() {
    for (const tab of Tabs.all) if (tab !== this) tab.onmessage();
  }
};

test("what one tab keeps no more, no other tab takes for kept", async () => {
  const settle = (one, name) => (queueMicrotask(() => one[name]()), one);
  const store = { getAll: () => ({ result: [{ id: 1 }] }), clear: () => ({}) };
  const database = { transaction: () => settle({ objectStore: () => store }, "oncomplete") };
  globalThis.indexedDB = { open: () => settle({ result: database }, "onsuccess") };
  const [one, other] = [new Shelf(), new Shelf()];
  const told = new Promise((resolve) => (other.onCleared = resolve));
  for (const shelf of [one, other]) await shelf.all();
  assert.equal(other.isOn, true);
  await one.clear();
  await told;
  assert.equal(other.isOn, false);
});

/** A store of which writing fails when all is written, as on a full disk. */
function fullDisk() {
  const transaction = { error: new Error("QuotaExceededError"), objectStore: () => ({ put: () => ({}), getAll: () => ({}) }) };
  const settle = (one, name) => queueMicrotask(() => one[name]());
  const database = { transaction: () => (settle(transaction, "onabort"), transaction) };
  const request = { result: database };
  return { open: () => (settle(request, "onsuccess"), request) };
}

for (const [name, indexedDB] of [["full", fullDisk()], ["forbidden", undefined]]) {
  test(`where storage is ${name} nothing counts as kept, and the visitor is told`, async (context) => {
    context.mock.method(console, "error", () => {});
    Object.assign(globalThis, { indexedDB, createImageBitmap: async () => ({ width: 1, height: 1 }) });
    const shelf = new Shelf();
    assert.deepEqual(await shelf.all(), []);
    shelf.isOn = true;
    await assert.rejects(shelf.put({ id: 1 }), /full or forbidden/);
    assert.equal(shelf.isOn, false);
  });
}
