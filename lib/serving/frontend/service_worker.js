// Keeps the page for visits without a network. `make site` writes VERSION, FILES and LARGE before this.

const CACHE = `${VERSION} ${registration.scope}`; // a page like this one may be at another path of this host

addEventListener("install", (event) => {
  skipWaiting();
  // From the host: the browser's own cache may still have files of an older page, which would stay mixed with these.
  // At a first visit the page itself keeps the large files, as they come.
  const names = registration.active ? [...FILES, ...LARGE] : FILES;
  const files = names.map((file) => new Request(file, { cache: "reload" }));
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(files)));
});

addEventListener("activate", (event) => {
  const isOutdated = (name) => name.startsWith(PREFIX) && name.endsWith(` ${registration.scope}`) && name !== CACHE;
  const outdated = async () => (await caches.keys()).filter(isOutdated);
  event.waitUntil(outdated().then((names) => Promise.all([clients.claim(), ...names.map((name) => caches.delete(name))])));
});

addEventListener("fetch", (event) => {
  if (event.request.method !== "GET") return;
  const kept = async () => {
    const cache = await caches.open(CACHE).catch(() => null); // of a damaged profile
    const url = event.request.url.replace(/\/index\.html(?=$|[?#])/, "/"); // to which some hosts redirect
    return (await cache?.match(url, { ignoreSearch: true })) ?? fetch(event.request);
  };
  event.respondWith(kept());
});
