// A network's class map → where in the picture each character is, as `lib/inference/class_map.py` finds it. A map is
// `{ rows, columns, channels, data }`, with the channels of a cell beside each other; boxes are left, top, right,
// bottom as fractions of the square.

import { lines } from "./square.js";

const BOX_LEVEL = 0.5; // share of a map's maximum above which a place belongs to the character
const SAME_FIGURE = 0.5; // boxes that overlap by more (intersection over union) are one figure
const SIDE = 96; // pixels of the enlarged map that is cut: a box is as exact as 1 / SIDE
const MOST = 4; // characters that are found at most

/** Takes the cells of one character out of a map, `rows × columns`. */
export function cellsOf({ rows, columns, channels, data }, label) {
  return { rows, columns, data: Float32Array.from({ length: rows * columns }, (_, cell) => data[cell * channels + label]) };
}

/**
 * Lists the characters in a picture: `{label, score, box}`, the one that the network names first, whatever its score;
 * then others from a score on. Where two have the same place, only the first of them is found.
 */
export function find(classMap, first, threshold) {
  const scores = Array.from({ length: classMap.channels }, (_, label) => Math.max(...cellsOf(classMap, label).data));
  const order = scores.map((_, label) => label).sort((a, b) => scores[b] - scores[a] || a - b);
  const found = [];
  for (const label of [first, ...order]) {
    if (found.length && (scores[label] < threshold || found.length === MOST)) break;
    const box = boxOf(cellsOf(classMap, label));
    if (found.every((other) => overlap(box, other.box) <= SAME_FIGURE)) found.push({ label, score: scores[label], box });
  }
  return found;
}

/** Averages a map with that of the mirrored picture. */
export function withMirrored(classMap, mirrored) {
  const { rows, columns, channels } = classMap;
  const data = classMap.data.map((value, index) => {
    const [cell, label] = [Math.floor(index / channels), index % channels];
    const across = cell % columns;
    return (value + mirrored.data[(cell - across + columns - 1 - across) * channels + label]) / 2;
  });
  return { rows, columns, channels, data };
}

/** Draws a box around the part of a map that is connected to its maximum. */
export function boxOf(cells) {
  const large = enlarged(cells, SIDE, SIDE);
  const peak = large.indexOf(large.reduce((most, value) => Math.max(most, value)));
  const belongs = Array.from(large, (value) => value >= Math.fround(BOX_LEVEL * large[peak]));
  const box = [SIDE, SIDE, 0, 0];
  const waiting = [peak];
  belongs[peak] = false;
  while (waiting.length) {
    const place = waiting.pop();
    const [x, y] = [place % SIDE, Math.floor(place / SIDE)];
    box.splice(0, 4, Math.min(box[0], x), Math.min(box[1], y), Math.max(box[2], x + 1), Math.max(box[3], y + 1));
    const beside = [x > 0 && place - 1, x < SIDE - 1 && place + 1, y > 0 && place - SIDE, y < SIDE - 1 && place + SIDE];
    for (const next of beside) {
      if (next === false || !belongs[next]) continue;
      belongs[next] = false;
      waiting.push(next);
    }
  }
  return box.map((side) => side / SIDE);
}

/** Enlarges a map linearly, as OpenCV does. */
export function enlarged({ rows, columns, data }, width, height) {
  const [across, down] = [lines(columns, width), lines(rows, height)];
  const result = new Float32Array(width * height);
  down.forEach(({ first: top, weights: [upper, lower = 0] }, row) =>
    across.forEach(({ first: left, weights: [near, far = 0] }, column) => {
      const along = (line) => near * data[line * columns + left] + (far && far * data[line * columns + left + 1]);
      result[row * width + column] = upper * along(top) + (lower && lower * along(top + 1));
    }),
  );
  return result;
}

/** Compares two boxes (intersection over union): 1 for the same, 0 for boxes apart. */
export function overlap(a, b) {
  const width = Math.min(a[2], b[2]) - Math.max(a[0], b[0]);
  const height = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  const both = Math.max(0, width) * Math.max(0, height);
  const area = ([left, top, right, bottom]) => (right - left) * (bottom - top);
  const either = area(a) + area(b) - both;
  return either > 0 ? both / either : 0;
}
