// A decoded picture → the square that a network expects, as `lib/data/pictures.py` makes it. Pixels are RGB, three
// bytes each: `{ width, height, data }`.

const LARGEST_STRETCH = 16 / 9; // "bounded" stretches up to this ratio and pads beyond
const BORDER_LEVELS = 20; // grey levels within which a border has one colour
const BORDER_EXCEPTIONS = 0.01; // fraction of its pixels that may differ more
const BORDER_SIDE = 256; // pixels of the reduced copy in which the figure is located
const MIN_FIGURE = 0.06; // of the longer side; anything smaller is no figure
const FIGURE_MARGIN = 0.03; // of the figure's longer side, kept around it

/** Rounds halves to the even neighbour, as Python does. */
export function round(number) {
  const nearest = Math.round(number);
  return nearest - number === 0.5 && nearest % 2 ? nearest - 1 : nearest;
}

/** Drops the opacity of what a canvas gives, which is opaque: `{ width, height, data }`, four bytes a pixel. */
export function rgbOf({ width, height, data }) {
  const rgb = new Uint8ClampedArray(3 * width * height);
  for (let from = 0, to = 0; from < data.length; from += 4) {
    rgb[to++] = data[from];
    rgb[to++] = data[from + 1];
    rgb[to++] = data[from + 2];
  }
  return { width, height, data: rgb };
}

/**
 * Computes which part of a picture is used.
 *
 * @returns {{box: number[], inner: number[]}} Left, top, right and bottom of the part in pixels of the picture, and
 *   its width and height in the square, where it is centred.
 */
export function framing(picture, size, resizeMode) {
  const whole = [0, 0, picture.width, picture.height];
  const box = (resizeMode === "bounded" && figureBox(picture)) || whole;
  const shown = [box[2] - box[0], box[3] - box[1]];
  const stretch = { stretch: Infinity, pad: 1, bounded: LARGEST_STRETCH }[resizeMode];
  const inner = shown.map((side) => Math.max(1, round(size * Math.min(1, (stretch * side) / Math.max(...shown)))));
  return { box, inner };
}

/** Says how many times as long as the used part of it a picture is, by the longer sides. */
export function surplus(picture, { box: [left, top, right, bottom] }) {
  return Math.max(picture.width, picture.height) / Math.max(right - left, bottom - top);
}

/** Resizes a picture to a square; padding repeats the pixels of its border. */
export function toSquare(picture, size, resizeMode, frame = framing(picture, size, resizeMode)) {
  const { box, inner } = frame;
  const small = resample(picture, inner, box);
  const [left, top] = inner.map((side) => Math.floor((size - side) / 2));
  const data = new Uint8ClampedArray(3 * size * size);
  const within = (place, side) => Math.min(side - 1, Math.max(0, place));
  for (let y = 0, to = 0; y < size; y++) {
    const row = within(y - top, inner[1]) * inner[0];
    for (let x = 0; x < size; x++) {
      const from = 3 * (row + within(x - left, inner[0]));
      for (let channel = 0; channel < 3; channel++) data[to++] = small.data[from + channel];
    }
  }
  return { width: size, height: size, data };
}

/** Turns a box in the square into one in the picture; both are left, top, right, bottom as fractions. */
export function boxInPicture(box, { width, height }, size, { box: part, inner }) {
  const sides = [width, height];
  return box.map((fraction, index) => {
    const axis = index % 2;
    const padding = Math.floor((size - inner[axis]) / 2);
    const place = Math.min(1, Math.max(0, (fraction * size - padding) / inner[axis]));
    return (part[axis] + place * (part[axis + 2] - part[axis])) / sides[axis];
  });
}

/** Finds the figure within uniform borders; null without borders or without a figure. */
function figureBox(picture) {
  const background = borderColour(picture);
  if (!background) return null;
  const sides = [picture.width, picture.height];
  const longest = Math.max(...sides);
  const small = resample(picture, scaled(sides, Math.min(BORDER_SIDE, longest)));
  const figure = extent(small, background);
  const smallSide = Math.max(small.width, small.height);
  const size = figure && Math.max(figure[2] - figure[0], figure[3] - figure[1]);
  if (!figure || size < MIN_FIGURE * smallSide) return null;
  const scale = longest / smallSide;
  const margin = FIGURE_MARGIN * size;
  return figure.map((place, index) =>
    index < 2
      ? Math.max(0, Math.floor((place - margin) * scale))
      : Math.min(sides[index - 2], Math.ceil((place + margin) * scale)),
  );
}

/** Bounds what differs from the background and is at least 2 × 2 pixels, which dust is not; null if nothing does. */
function extent({ width, height, data }, background) {
  const isDrawn = new Uint8Array(width * height);
  for (let place = 0; place < isDrawn.length; place++) isDrawn[place] = differs(data, 3 * place, background);
  const at = (x, y) => x >= width || y >= height || isDrawn[y * width + x];
  const box = [width, height, 0, 0];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (!isDrawn[y * width + x] || !at(x + 1, y) || !at(x, y + 1) || !at(x + 1, y + 1)) continue;
      box[0] = Math.min(box[0], x);
      box[1] = Math.min(box[1], y);
      box[2] = Math.max(box[2], Math.min(width, x + 2));
      box[3] = Math.max(box[3], Math.min(height, y + 2));
    }
  }
  return box[2] ? box : null;
}

/** Gives the median colour of the four edges, or null if they have more than one. */
function borderColour({ width, height, data }) {
  const edges = [];
  for (let x = 0; x < width; x++) edges.push(3 * x, 3 * ((height - 1) * width + x));
  for (let y = 0; y < height; y++) edges.push(3 * y * width, 3 * (y * width + width - 1));
  const colour = [0, 1, 2].map((channel) => median(edges.map((from) => data[from + channel])));
  const others = edges.filter((from) => differs(data, from, colour)).length;
  return others / edges.length > BORDER_EXCEPTIONS ? null : colour;
}

function differs(data, from, [red, green, blue]) {
  const most = Math.max(Math.abs(data[from] - red), Math.abs(data[from + 1] - green), Math.abs(data[from + 2] - blue));
  return most > BORDER_LEVELS;
}

function median(values) {
  values.sort((a, b) => a - b);
  const middle = values.length / 2;
  return (values[Math.ceil(middle) - 1] + values[Math.floor(middle)]) / 2;
}

const range = (count) => [...Array(count).keys()];

/** Scales [width, height] so that the longer side is `longest` and the other at least 1. */
export function scaled(shown, longest) {
  return shown.map((side) => Math.max(1, round((side * longest) / Math.max(...shown))));
}

/**
 * Resizes a part of a picture to [width, height]: each axis by area averaging if it shrinks, linearly if it grows.
 *
 * Averaging comes first, and rounds, as OpenCV does.
 */
export function resample(picture, [width, height], box = [0, 0, picture.width, picture.height]) {
  const [partWidth, partHeight] = [box[2] - box[0], box[3] - box[1]];
  if (width === picture.width && height === picture.height && width === partWidth && height === partHeight) return picture;
  const smaller = [Math.min(width, partWidth), Math.min(height, partHeight)];
  const averaged = weighted(picture, areas(partWidth, smaller[0]), areas(partHeight, smaller[1]), box);
  if (smaller[0] === width && smaller[1] === height) return averaged;
  return weighted(averaged, lines(smaller[0], width), lines(smaller[1], height));
}

/** For each place of the result: the first place of the source that counts, and weights from there on. */
function areas(from, to) {
  const scale = from / to;
  return range(to).map((place) => {
    const [start, end] = [place * scale, (place + 1) * scale];
    const [first, last] = [Math.floor(start + 1e-9), Math.ceil(end - 1e-9)];
    const weights = range(last - first).map((step) => {
      const source = first + step;
      return (Math.min(end, source + 1) - Math.max(start, source)) / scale;
    });
    return { first, weights };
  });
}

/** The same for linear enlargement. */
export function lines(from, to) {
  return range(to).map((place) => {
    const source = Math.min(from - 1, Math.max(0, ((place + 0.5) * from) / to - 0.5));
    const first = Math.min(Math.floor(source), Math.max(0, from - 2));
    return { first, weights: from > 1 ? [1 - (source - first), source - first] : [1] };
  });
}

function weighted({ width, data }, columns, rows, [left, top] = [0, 0]) {
  const across = 3 * columns.length;
  const result = new Uint8ClampedArray(across * rows.length);
  const sums = new Float32Array(across);
  rows.forEach(({ first: firstRow, weights: rowWeights }, y) => {
    sums.fill(0);
    rowWeights.forEach((rowWeight, step) => {
      const start = (top + firstRow + step) * width + left;
      for (let x = 0, to = 0; x < columns.length; x++) {
        const { first, weights } = columns[x];
        let [red, green, blue] = [0, 0, 0];
        for (let index = 0, from = 3 * (start + first); index < weights.length; index++) {
          const weight = weights[index];
          red += weight * data[from++];
          green += weight * data[from++];
          blue += weight * data[from++];
        }
        sums[to++] += rowWeight * red;
        sums[to++] += rowWeight * green;
        sums[to++] += rowWeight * blue;
      }
    });
    result.set(sums, y * across);
  });
  return { width: columns.length, height: rows.length, data: result };
}
