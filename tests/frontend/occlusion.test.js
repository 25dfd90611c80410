import assert from "node:assert/strict";
import { test } from "node:test";

import { covered, importance, overlay, patches } from "../../lib/serving/frontend/occlusion.js";

test("the grey square goes from edge to edge in eight steps", () => {
  const { side, places } = patches(96);
  assert.deepEqual([side, places.length, places[0], places.at(-1)], [24, 64, [0, 0], [72, 72]]);
});

test("a covered part is grey and the rest stays", () => {
  const square = { width: 4, height: 4, data: new Uint8ClampedArray(48).fill(9) };
  const { data } = covered(square, [1, 1], 2);
  assert.deepEqual([...data].filter((value) => value === 127).length, 2 * 2 * 3);
  assert.deepEqual([data[0], data[3 * 5], square.data[3 * 5]], [9, 127, 9]);
});

test("where the probability falls matters most, and gains do not count", () => {
  const losses = Array(64).fill(-0.1);
  losses[0] = 0.5;
  const { data } = importance(16, losses);
  assert.equal(data[0], 1);
  assert.equal(data[16 * 16 - 1], 0);
  assert.deepEqual([...importance(16, Array(64).fill(0)).data], Array(256).fill(0));
});

test("what changes little is darkened little", () => {
  const cells = { rows: 2, columns: 2, data: Float32Array.from([1, 0, 0, 0]) };
  const frame = { box: [0, 0, 8, 8], inner: [8, 8] };
  const opacity = (effect) => overlay(cells, { width: 8, height: 8 }, 8, frame, effect).data.at(-1);
  // Full darkness is 0.75 of 255; it is reached where the probability falls by one half.
  assert.deepEqual([opacity(0.5), opacity(1), opacity(0.05), opacity(0)], [191, 191, 19, 0]);
});
