// Which parts of a picture an answer depends on: each part is covered in turn, as `lib/evaluation/occlusion.py` does.

import { boxInPicture } from "./square.js";
import { enlarged } from "./class_map.js";

const PATCH_SIDE = 1 / 4; // of the square's side
const POSITIONS = 8; // along each side
const GREY = 127;
const OVERLAY_COLOUR = [14, 16, 26]; // over the parts that do not matter
const MAX_OPACITY = 0.75; // so that the picture stays recognisable
const FULL_EFFECT = 0.5; // fall of the probability from which the overlay is as dark as it gets

/** Gives the places of the grey square: `[left, top]` each, and its side, in pixels. */
export function patches(size) {
  const side = Math.max(1, Math.round(PATCH_SIDE * size));
  const starts = Array.from({ length: POSITIONS }, (_, index) => Math.round((index * (size - side)) / (POSITIONS - 1)));
  return { side, places: starts.flatMap((top) => starts.map((left) => [left, top])) };
}

/** Covers a part of a square picture. */
export function covered(square, [left, top], side) {
  const data = square.data.slice();
  for (let y = top; y < top + side; y++) data.fill(GREY, 3 * (y * square.width + left), 3 * (y * square.width + left + side));
  return { ...square, data };
}

/** Averages, for each pixel, the losses of the patches that cover it; 0 to 1, all 0 if no patch lowers anything. */
export function importance(size, losses) {
  const { side, places } = patches(size);
  const [total, count] = [new Float32Array(size * size), new Float32Array(size * size)];
  places.forEach(([left, top], index) => {
    for (let y = top; y < top + side; y++) {
      for (let x = left; x < left + side; x++) {
        total[y * size + x] += Math.max(0, losses[index]);
        count[y * size + x] += 1;
      }
    }
  });
  const means = total.map((sum, place) => sum / count[place]);
  const most = means.reduce((one, other) => Math.max(one, other));
  return { rows: size, columns: size, data: most > 0 ? means.map((mean) => mean / most) : means };
}

/**
 * Turns a map over the square into an overlay for the picture: the less a part matters, the darker.
 *
 * @param {object} cells `{rows, columns, data}`, highest 1.
 * @param {object} picture Its `width` and `height` are those of the overlay's picture.
 * @param {object} frame As `framing` gives it.
 * @param {number} effect How much it matters at all, 0 to 1: what changes little is darkened little.
 * @returns {ImageData} Of at most 256 pixels a side.
 */
export function overlay(cells, picture, size, frame, effect) {
  const scale = 256 / Math.max(picture.width, picture.height);
  const [width, height] = [picture.width, picture.height].map((side) => Math.max(1, Math.round(side * scale)));
  const large = enlarged(cells, size, size);
  const [left, top, right, bottom] = boxInPicture([0, 0, 1, 1], picture, size, frame);
  const strength = Math.min(1, effect / FULL_EFFECT);
  const data = new Uint8ClampedArray(4 * width * height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const place = [(x + 0.5) / width, (y + 0.5) / height];
      const isUsed = place[0] >= left && place[0] <= right && place[1] >= top && place[1] <= bottom;
      const [u, v] = [(place[0] - left) / (right - left), (place[1] - top) / (bottom - top)];
      const source = [u, v].map((share, axis) =>
        Math.min(size - 1, Math.floor(Math.floor((size - frame.inner[axis]) / 2) + share * frame.inner[axis])),
      );
      const value = isUsed ? large[source[1] * size + source[0]] : 0;
      data.set([...OVERLAY_COLOUR, 255 * MAX_OPACITY * (1 - value) * strength], 4 * (y * width + x));
    }
  }
  return { width, height, data };
}

