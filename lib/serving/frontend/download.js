// Large files: with progress, compressed on any host, and kept for visits without a network.

/**
 * Opens a large file that lies beside the page, by its compressed copy where the browser can unpack that.
 *
 * @param {string} url Of the file, without `.gz`.
 * @param {string} cacheName Of the browser's cache in which the file is kept.
 * @param {(bytes: number) => void} onBytes Told of each part that has come, compressed bytes.
 * @returns {Promise<ReadableStream>} Its contents, unpacked.
 */
export async function open(url, cacheName, onBytes) {
  const canUnpack = "DecompressionStream" in globalThis;
  const address = canUnpack ? `${url}.gz` : url;
  const cache = await cacheOf(cacheName);
  const found = await cache?.match(address);
  const response = found ?? (await fetched(address));
  const copy = cache && !found && response.clone();
  const counted = response.body.pipeThrough(
    new TransformStream({
      transform(part, controller) {
        onBytes(part.length);
        controller.enqueue(part);
      },
    }),
  );
  // Some hosts declare a file named .gz as compressed, and the browser has unpacked it already.
  const isPacked = canUnpack && !response.headers.get("Content-Encoding");
  const contents = isPacked ? counted.pipeThrough(new DecompressionStream("gzip")) : counted;
  // Kept once all of it is there and unpacked: a damaged one would come again at every visit. The disk may be full, and
  // whoever reads does not wait for it.
  return contents.pipeThrough(new TransformStream({ flush: () => void (copy && cache.put(address, copy).catch(() => {})) }));
}

/** Opens the browser's cache; null where there is none, in an insecure context or where the visitor forbids to store. */
async function cacheOf(name) {
  try {
    return await caches.open(name);
  } catch {
    return null;
  }
}

async function fetched(url) {
  const response = await fetch(url, { cache: "no-cache" }); // the host may have another one of this name by now
  if (!response.ok) throw new Error(`${url} answers with status ${response.status}`);
  return response;
}
