// Large files: with progress, compressed on any host, and kept for visits without a network.

/**
 * Opens a file that lies beside the page.
 *
 * `make site` puts a compressed copy beside each large file. It is asked for and unpacked here, since many hosts
 * compress nothing themselves.
 *
 * @param {string} url Of the file, without `.gz`.
 * @param {string} cacheName Of the browser's cache in which the file is kept.
 * @param {(bytes: number) => void} onBytes Told of each part that has come, compressed bytes.
 * @returns {Promise<ReadableStream>} Its contents, unpacked.
 */
export async function open(url, cacheName, onBytes) {
  const canUnpack = "DecompressionStream" in globalThis;
  const response = await kept(canUnpack ? `${url}.gz` : url, cacheName);
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
  return isPacked ? counted.pipeThrough(new DecompressionStream("gzip")) : counted;
}

/** Takes a file from the browser's cache, or fetches it and keeps it there. */
async function kept(url, cacheName) {
  const cache = await globalThis.caches?.open(cacheName); // there is none in an insecure context
  const found = await cache?.match(url);
  if (found) return found;
  const response = await fetch(url, { cache: "no-cache" }); // the host may have another one of this name by now
  if (!response.ok) throw new Error(`${url} answers with status ${response.status}`);
  cache?.put(url, response.clone()).catch(() => {}); // the disk may be full; whoever reads does not wait for it
  return response;
}
