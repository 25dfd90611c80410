// Keeps the page for visits without a network. `make site` writes VERSION and FILES before this.

addEventListener("install", (event) => {
  skipWaiting();
  event.waitUntil(caches.open(VERSION).then((cache) => cache.addAll(FILES)));
});

addEventListener("activate", (event) => {
  const outdated = async () => (await caches.keys()).filter((name) => name.startsWith(PREFIX) && name !== VERSION);
  event.waitUntil(outdated().then((names) => Promise.all([clients.claim(), ...names.map((name) => caches.delete(name))])));
});

addEventListener("fetch", (event) => {
  if (event.request.method !== "GET") return;
  const kept = async () => {
    const cache = await caches.open(VERSION);
    return (await cache.match(event.request, { ignoreSearch: true })) ?? fetch(event.request);
  };
  event.respondWith(kept());
});
