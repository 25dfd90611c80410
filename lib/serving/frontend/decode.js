// From a picture, `{ source, width, height }`, to pixels: the browser's decoder, set up as the recogniser's.

export const OPENED_SIDE = 1024; // pixels of a picture's longer side that are looked at; networks see about a tenth

/** Decodes a picture upright, its longer side of so many pixels at most; a bitmap that is small enough stays itself. */
export async function decode({ source, width, height }, longest) {
  const scale = Math.min(1, longest / Math.max(width, height));
  if (scale === 1 && source instanceof ImageBitmap) return source;
  const [resizeWidth, resizeHeight] = [width, height].map((side) => Math.max(1, Math.round(scale * side)));
  // Colour profiles are left alone, as the recogniser leaves them.
  const options = { imageOrientation: "from-image", colorSpaceConversion: "none" };
  if (scale < 1) Object.assign(options, { resizeWidth, resizeHeight, resizeQuality: "high" });
  return createImageBitmap(source, options);
}

/** Describes a bitmap as a picture. */
export const pictureOf = (source) => ({ source, width: source.width, height: source.height });
