import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";

import { Camera } from "../../lib/serving/frontend/camera.js";

/** An element that takes everything and shows nothing. */
const element = () => ({
  classList: { add() {} },
  dataset: {},
  style: { setProperty() {} },
  videoWidth: 640,
  textContent: "",
  append() {},
  replaceChildren() {},
  setAttribute() {},
  addEventListener() {},
  contains: () => false,
  play: async () => {},
});

let [asked, tracks, grant] = [0, [], null];

function camera(recognise) {
  const page = { about: {}, chosen: ["one"], problems: [], begin() {}, fail: (one) => page.problems.push(one), scrollTo() {} };
  page.transport = { recognise };
  return new Camera(page);
}

beforeEach(() => {
  [asked, tracks] = [0, []];
  const listening = { addEventListener() {}, removeEventListener() {} };
  globalThis.document = { createElement: element, hidden: false, ...listening };
  globalThis.createImageBitmap = async () => ({ width: 640, height: 480, close() {} });
  const getUserMedia = () => {
    asked += 1;
    return new Promise((resolve) => {
      grant = () => {
        const track = { isOn: true, stop: () => (track.isOn = false) };
        tracks.push(track);
        resolve({ getTracks: () => [track] });
      };
    });
  };
  Object.defineProperty(globalThis, "navigator", { value: { mediaDevices: { getUserMedia } }, configurable: true });
});

afterEach(() => {
  delete globalThis.document;
});

const answer = (label, share, found = []) => ({
  character: label,
  name: label,
  known: true,
  found,
  probability: share,
  probabilities: { [label]: share, bart: 0.3 },
});

test("the visitor is asked for the camera once, and it ends where they have left meanwhile", async () => {
  const live = camera(async () => ({}));
  const started = live.start();
  await live.start();
  assert.equal(asked, 1);
  document.hidden = true;
  grant();
  await started;
  assert.deepEqual([live.isOn, tracks[0].isOn], [false, false]);
});

test("two characters are named together, as in an answer, until the camera is unplugged", async () => {
  const both = answer("homer", 0.4, [{ character: "homer", name: "homer" }, { character: "bart", name: "bart" }]);
  let frames = 0;
  const live = camera(async () => {
    if ((frames += 1) === 5) tracks[0].onended();
    return { one: both };
  });
  const started = live.start();
  grant();
  await started;
  assert.deepEqual([live.name.textContent, live.share.textContent], ["homer and bart", "70\u00a0%"]);
  assert.deepEqual([live.isOn, live.page.problems], [false, []]);
});
