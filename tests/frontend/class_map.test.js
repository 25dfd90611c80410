import assert from "node:assert/strict";
import { test } from "node:test";

import { boxOf, find, overlap, withMirrored } from "../../lib/serving/frontend/class_map.js";

/** Makes a map of 6 × 6 cells with the given cells, [label, row, column, value]. */
export function mapOf(channels, ...cells) {
  const data = new Float32Array(36 * channels);
  for (const [label, row, column, value] of cells) data[(6 * row + column) * channels + label] = value;
  return { rows: 6, columns: 6, channels, data };
}

test("a box surrounds the part that is connected to the maximum", () => {
  const cells = mapOf(1, [0, 1, 1, 1], [0, 4, 4, 0.9]);
  const [left, top, right, bottom] = boxOf(cells);
  // A cell is 16 of 96 pixels; between its middle (24) and the next one's (40) the value falls below one half at 32.
  assert.deepEqual([left, top, right, bottom], [16 / 96, 16 / 96, 32 / 96, 32 / 96]);
});

test("a map that is the same everywhere is the whole square", () => {
  assert.deepEqual(boxOf({ rows: 2, columns: 2, data: new Float32Array(4).fill(0.3) }), [0, 0, 1, 1]);
});

test("the named one comes first, then others from the threshold on", () => {
  const found = find(mapOf(3, [0, 1, 1, 0.7], [1, 4, 4, 0.9], [2, 1, 4, 0.4]), 0, 0.5);
  assert.deepEqual(found.map(({ label }) => label), [0, 1]);
  assert.ok(Math.abs(found[1].score - 0.9) < 1e-6);
});

test("a map is averaged with the mirrored picture's, turned back", () => {
  const mean = withMirrored(mapOf(2, [1, 2, 0, 1]), mapOf(2, [1, 2, 5, 0.5], [0, 0, 1, 0.4]));
  assert.deepEqual([mean.data[(6 * 2 + 0) * 2 + 1], mean.data[(0 + 4) * 2]], [0.75, Math.fround(0.2)]);
});

test("of two characters at one place only the first is found", () => {
  assert.deepEqual(find(mapOf(2, [0, 2, 2, 0.7], [1, 2, 2, 0.9]), 1, 0.5).map(({ label }) => label), [1]);
});

test("overlap is intersection over union", () => {
  // Two squares of side 2 that share 1 × 2: 2 / (4 + 4 - 2).
  assert.equal(overlap([0, 0, 2, 2], [1, 0, 3, 2]), 1 / 3);
  assert.equal(overlap([0, 0, 1, 1], [2, 2, 3, 3]), 0);
});
