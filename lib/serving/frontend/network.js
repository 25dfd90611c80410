// A model file, run by LiteRT.js: pixels → answers. It works in a worker and knows nothing of the page.

import { cellsOf, withMirrored } from "./class_map.js";
import { decide } from "./decision.js";
import { OPENED_SIDE, decode, pictureOf } from "./decode.js";
import { covered, importance, overlay, patches } from "./occlusion.js";
import { boxInPicture, framing, rgbOf, surplus, toSquare } from "./square.js";

export const LARGEST_SIDE = 4096; // pixels that are looked at where only a small part of a picture is used

/** A network that is ready to answer. */
export class Network {
  /**
   * @param {object} litert The module `@litertjs/core`, loaded.
   * @param {object} model What its `loadAndCompile` made.
   * @param {object} settings How it is asked and how it decides, as `make site` wrote it.
   */
  constructor(litert, model, settings) {
    this.litert = litert;
    this.model = model;
    this.settings = settings;
  }

  /**
   * Answers for a picture, `{ source, width, height }`, perhaps with a bitmap of it as `preview`, which spares decoding
   * it again; see `decide`. Boxes are fractions of the picture.
   */
  async recognise(picture) {
    const { pixels, frame, square } = await this.open(picture);
    const { probabilities, classMap } = await this.predict(square);
    const answer = decide(this.settings, probabilities, classMap);
    for (const one of answer.found) one.box &&= boxInPicture(one.box, pixels, square.width, frame);
    return answer;
  }

  /**
   * Shows which parts of a picture speak for a character.
   *
   * @returns {Promise<{name, before, after, veil}>} Its name and its probability, the same with the most important part
   *   covered (null where the network has a map of its own), and pixels to lay over the picture.
   */
  async explain(picture, character) {
    const { pixels, frame, square } = await this.open(picture);
    const { probabilities, classMap } = await this.predict(square);
    const { characters, names } = this.settings;
    const shares = probabilities.slice(0, characters.length);
    const asked = characters.indexOf(character); // a picture that was kept may be older than the network
    const label = asked < 0 ? shares.indexOf(Math.max(...shares)) : asked;
    const [name, before, size] = [names[label], probabilities[label], square.width];
    if (classMap) {
      const cells = cellsOf(classMap, label);
      const most = Math.max(...cells.data) || 1;
      cells.data = cells.data.map((value) => value / most);
      return { name, before, after: null, veil: overlay(cells, pixels, size, frame, 1) };
    }
    const losses = [];
    const { side, places } = patches(size);
    for (const place of places) {
      const { probabilities: others } = await this.predict(covered(square, place, side));
      losses.push(before - others[label]);
    }
    const most = Math.max(0, ...losses);
    return { name, before, after: before - most, veil: overlay(importance(size, losses), pixels, size, frame, most) };
  }

  /** Opens a picture, large enough that the part of it that is used fills the square. */
  async open(picture) {
    const { picture_size: size, resize_mode: mode } = this.settings;
    const longest = Math.max(picture.width, picture.height);
    let pixels = await pixelsOf(picture.preview ? pictureOf(picture.preview) : picture, OPENED_SIDE);
    let frame = framing(pixels, size, mode);
    const larger = surplus(pixels, frame);
    if (longest > OPENED_SIDE && larger > 1) {
      pixels = await pixelsOf(picture, Math.min(LARGEST_SIDE, Math.ceil(larger * OPENED_SIDE)));
      frame = framing(pixels, size, mode);
    }
    return { pixels, frame, square: toSquare(pixels, size, mode, frame) };
  }

  /** Computes probabilities and, where the network has one, the class map of a square picture. */
  async predict(square) {
    const { probabilities, classMap } = await this.run(square);
    const known = probabilities.slice(0, this.settings.characters.length);
    if (Math.max(...known) >= this.settings.flip_tta_threshold) return { probabilities, classMap };
    const mirrored = await this.run(mirror(square));
    return {
      probabilities: probabilities.map((one, label) => (one + mirrored.probabilities[label]) / 2),
      classMap: classMap && withMirrored(classMap, mirrored.classMap),
    };
  }

  async run({ width, height, data }) {
    const input = new this.litert.Tensor(Float32Array.from(data), [1, height, width, 3]);
    const outputs = await this.model.run([input]);
    input.delete();
    const result = { probabilities: null, classMap: null };
    for (const output of outputs) {
      // LiteRT numbers outputs in an order of its own; their shapes tell them apart.
      const shape = Array.from(output.type.layout.dimensions);
      const values = (await output.data()).slice();
      output.delete();
      if (shape.length === 2) result.probabilities = values;
      else result.classMap = { rows: shape[1], columns: shape[2], channels: shape[3], data: values };
    }
    return result;
  }
}

function mirror({ width, height, data }) {
  const result = new Uint8ClampedArray(data.length);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const from = 3 * (y * width + x);
      result.set(data.subarray(from, from + 3), 3 * (y * width + width - 1 - x));
    }
  }
  return { width, height, data: result };
}

/** Decodes a picture on white, its longer side of so many pixels at most. */
export async function pixelsOf(picture, longest) {
  const bitmap = await decode(picture, longest);
  const { width, height } = bitmap;
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  if (bitmap !== picture.source) bitmap.close();
  return rgbOf(context.getImageData(0, 0, width, height));
}
