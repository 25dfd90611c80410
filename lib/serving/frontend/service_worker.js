// Keeps the page for visits without a network. `make site` writes VERSION, FILES and LARGE before this.

const CACHE = `${VERSION} ${registration.scope}`; // a page like this one may be at another path of this host

addEventListener("install", (event) => {
  skipWaiting();
  // From the host: the browser's own cache may still have files of an older page, which would stay mixed with these.
  const reloaded = (file) => new Request(file, { cache: "reload" });
  const keep = async (cache, file) => {
    const before = await caches.match(file);
    if (!before) return; // the page keeps large files as they come; this visitor has not asked for it
    // The name of a network is its digest, so it is still the same.
    await cache.put(file, file.startsWith("networks/") ? before : await fetch(reloaded(file)));
  };
  const install = async () => {
    const cache = await caches.open(CACHE);
    await cache.addAll(FILES.map(reloaded));
    await Promise.allSettled(LARGE.map((file) => keep(cache, file)));
  };
  event.waitUntil(install());
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
