// What the worker of the static page does: loads LiteRT.js and networks when they are asked for, and answers.

import { about } from "./about.js";
import { open } from "./download.js";
import { Network } from "./network.js";
import { Problem, inWords } from "./problem.js";

const LOST = "The recogniser could not be loaded. Check the connection, then try again; if that does not help, load the page again.";
const OLD = "This browser cannot run a network (WebAssembly is missing or switched off). Use a current one.";
const DAMAGED = "This picture is damaged or incomplete. Check it in a picture viewer, and save or download it again.";

const CACHE = `${about.version} ${new URL("./", self.location)}`; // the service worker's

const loading = new Map(); // key → promise of a network
let runtime = null;

/** Answers a question of the page, `{ ask, … }`; gives its `problem` where there is no answer. */
export async function answer(question, onProgress) {
  try {
    return await ask(question, onProgress);
  } catch (problem) {
    return { problem: inWords(problem), reload: problem.reload };
  }
}

async function ask(question, onProgress) {
  if (question.ask === "look") return { found: Boolean(await network(about.networks[0].key, onProgress)) };
  const asked = question.networks ?? [question.network];
  const networks = await Promise.allSettled(asked.map((key) => network(key, onProgress)));
  try {
    if (networks.every((one) => one.reason)) throw networks[0].reason;
    if (question.ask === "explain") return await explain(networks[0].value, question);
    const answers = {};
    for (const [index, { value, reason }] of networks.entries()) {
      answers[asked[index]] = value ? await value.recognise(question.picture) : { problem: inWords(reason) };
    }
    return { answers };
  } catch (problem) {
    if (problem.name !== "InvalidStateError") throw problem; // which createImageBitmap throws
    throw new Problem(DAMAGED);
  } finally {
    question.picture.source.close?.();
    question.picture.preview?.close();
  }
}

async function explain(network, { picture, character }) {
  const { veil, ...facts } = await network.explain(picture, character);
  const canvas = new OffscreenCanvas(veil.width, veil.height);
  canvas.getContext("2d").putImageData(new ImageData(veil.data, veil.width, veil.height), 0, 0);
  return { ...facts, veil: await canvas.convertToBlob() };
}

/** Loads a network, once where that succeeds. */
function network(key, onProgress) {
  if (!loading.has(key)) {
    loading.set(key, load(about.networks.find((one) => one.key === key), onProgress));
    loading.get(key).catch(() => loading.delete(key)); // the next question tries again
  }
  return loading.get(key);
}

async function load({ file, bytes, settings }, onProgress) {
  if (!globalThis.WebAssembly || !globalThis.OffscreenCanvas) throw new Problem(OLD);
  const total = bytes + (runtime ? 0 : about.runtime.bytes);
  let done = 0;
  const onBytes = (count) => onProgress(Math.min(1, (done += count) / total));
  try {
    runtime ??= loadRuntime(onBytes).catch((problem) => {
      runtime = null;
      throw problem;
    });
    const [litert, contents] = await Promise.all([
      runtime,
      open(file, CACHE, onBytes).then((stream) => new Response(stream).arrayBuffer()),
    ]);
    const model = await litert.loadAndCompile(new Uint8Array(contents), { accelerator: "wasm" });
    return new Network(litert, model, settings);
  } catch (problem) {
    console.error(problem);
    throw new Problem(LOST, true);
  } finally {
    onProgress(null);
  }
}

/** Loads LiteRT.js; its module is compiled while it comes, and before: where it does not come, LiteRT.js never ends. */
async function loadRuntime(onBytes) {
  const { script, wasm } = about.runtime;
  const headers = { "Content-Type": "application/wasm" };
  const [litert, module] = await Promise.all([
    import("./litert/index.js"),
    WebAssembly.compileStreaming(open(wasm, CACHE, onBytes).then((body) => new Response(body, { headers }))),
  ]);
  self.Module = { instantiateWasm: (imports, receive) => receive(new WebAssembly.Instance(module, imports), module) };
  await litert.loadLiteRt(new URL(script, self.location).href);
  return litert;
}
