import assert from "node:assert/strict";
import { test } from "node:test";

import { boxInPicture, framing, resample, round, scaled, toSquare } from "../../lib/serving/frontend/square.js";

/** Makes a picture of one colour, with a rectangle (left, top, right, bottom) of another in it. */
function drawn(width, height, ground, [left, top, right, bottom] = [0, 0, 0, 0], colour = ground) {
  const data = new Uint8ClampedArray(3 * width * height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const isInside = x >= left && x < right && y >= top && y < bottom;
      data.set(isInside ? colour : ground, 3 * (y * width + x));
    }
  }
  return { width, height, data };
}

const WHITE = [255, 255, 255];
const RED = [255, 0, 0];

test("halves are rounded to the even neighbour, as in Python", () => {
  assert.deepEqual([0.5, 1.5, 2.5, 2.4, 2.6].map(round), [0, 2, 2, 2, 3]);
});

test("shrinking averages areas", () => {
  const picture = drawn(4, 2, [0, 0, 0], [0, 0, 2, 2], [200, 100, 50]);
  assert.deepEqual([...resample(picture, [2, 1]).data], [200, 100, 50, 0, 0, 0]);
  assert.deepEqual([...resample(picture, [1, 1]).data], [100, 50, 25]);
});

test("shrinking by a fraction weighs pixels that are cut", () => {
  // Three pixels become two: each takes a whole pixel and half of the middle one.
  const picture = { width: 3, height: 1, data: Uint8ClampedArray.from([90, 90, 90, 30, 30, 30, 0, 0, 0]) };
  assert.deepEqual([...resample(picture, [2, 1]).data].filter((_, place) => place % 3 === 0), [70, 10]);
});

test("growing is linear between the middles of pixels", () => {
  const picture = { width: 2, height: 1, data: Uint8ClampedArray.from([0, 0, 0, 100, 100, 100]) };
  assert.deepEqual([...resample(picture, [4, 1]).data].filter((_, place) => place % 3 === 0), [0, 25, 75, 100]);
});

test("padding repeats the border, stretching fills the square", () => {
  const picture = drawn(4, 2, RED, [0, 0, 4, 1], WHITE);
  const padded = toSquare(picture, 4, "pad");
  const column = (square) => [0, 1, 2, 3].map((y) => square.data[3 * 4 * y + 1]); // green of the first column
  assert.deepEqual(framing(picture, 4, "pad").inner, [4, 2]);
  assert.deepEqual(column(padded), [255, 255, 0, 0]);
  assert.deepEqual(column(toSquare(drawn(4, 4, RED), 4, "stretch")), [0, 0, 0, 0]);
});

test("bounded stretches up to 16:9 and pads what is longer", () => {
  assert.deepEqual(framing(drawn(160, 90, RED, [0, 0, 80, 90], WHITE), 90, "bounded").inner, [90, 90]);
  // 1:4 is stretched by 16/9 in its narrow direction: 90 × 16/9 / 4 = 40.
  assert.deepEqual(framing(drawn(400, 100, RED, [0, 0, 200, 100], WHITE), 90, "bounded").inner, [90, 40]);
});

test("uniform borders are cropped, with a margin around the figure", () => {
  // The figure has 100 pixels; 3 on each side are kept.
  assert.deepEqual(framing(drawn(200, 200, WHITE, [50, 50, 150, 150], RED), 96, "bounded").box, [47, 47, 153, 153]);
});

test("dust is no figure, and a picture of one colour has none", () => {
  assert.deepEqual(framing(drawn(200, 200, WHITE, [50, 50, 51, 51], RED), 96, "bounded").box, [0, 0, 200, 200]);
  assert.deepEqual(framing(drawn(50, 40, WHITE), 96, "bounded").box, [0, 0, 50, 40]);
});

test("a border of two colours is no border", () => {
  const picture = drawn(200, 200, WHITE, [0, 0, 100, 200], RED);
  assert.deepEqual(framing(picture, 96, "bounded").box, [0, 0, 200, 200]);
});

test("a box in the square becomes one in the picture", () => {
  // The picture fills the middle half of the square's height, and shows the right half of the whole.
  const frame = { box: [100, 0, 200, 50], inner: [96, 48] };
  const box = boxInPicture([0, 0.25, 0.5, 0.5], { width: 200, height: 50 }, 96, frame);
  assert.deepEqual(box, [0.5, 0, 0.75, 0.5]);
});

test("the shorter side has at least one pixel", () => {
  assert.deepEqual(scaled([1000, 1], 10), [10, 1]);
});
