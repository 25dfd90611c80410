// Picture files, as a browser sees them: whether they can be used, small copies, and parts of them.

import { decode } from "./decode.js";
import { make } from "./dom.js";
import { Problem } from "./problem.js";

const HEIC = ["heic", "heix", "hevc", "heim", "heis", "mif1", "msf1"];
const JPEG_QUALITY = 0.9;

/**
 * Checks a file and reads its size, without decoding a pixel.
 *
 * @param {Blob} file Whatever a visitor gave.
 * @param {object} limits `bytes`, `pixels` and `side`, as the decoder has them.
 * @returns {Promise<{source: Blob, width: number, height: number}>} The picture, upright as far as the browser
 * turns it: Chromium turns no WebP.
 * @throws {Problem} It cannot be used.
 */
export async function inspect(file, limits) {
  if (!file.size) throw new Problem("The file is empty (0 bytes), or a folder. Choose a picture file.");
  if (file.size > limits.bytes) {
    const [size, most] = [(file.size / 1e6).toFixed(1), limits.bytes / 1e6];
    throw new Problem(`The file has ${size} MB, at most ${most} MB can be read. Make the picture smaller.`);
  }
  const [width, height] = await sizeOf(file);
  if (width * height > limits.pixels) {
    throw new Problem(
      `The picture has ${width} × ${height} pixels, at most ${limits.pixels / 1e6} million can be read. Make it smaller.`,
    );
  }
  if (Math.min(width, height) < limits.side) {
    throw new Problem(
      `The picture has ${width} × ${height} pixels, at least ${limits.side} a side are needed. Choose a larger picture.`,
    );
  }
  return { source: file, width, height };
}

async function sizeOf(file) {
  const url = URL.createObjectURL(file);
  try {
    // An image tells its size before it is decoded; a decoded bitmap may take gigabytes.
    const image = make("img");
    await new Promise((resolve, reject) => Object.assign(image, { onload: resolve, onerror: reject, src: url }));
    if (image.naturalWidth) return [image.naturalWidth, image.naturalHeight];
  } catch {
    // Not a picture to this browser.
  } finally {
    URL.revokeObjectURL(url);
  }
  const declared = await declaredSize(file);
  if (declared) return declared; // too large for the browser, perhaps
  throw new Problem(await whyNot(file));
}

/** Reads the first bytes of a file; throws a `Problem` for what cannot be read, such as a folder. */
async function startOf(file, length) {
  try {
    return await file.slice(0, length).arrayBuffer();
  } catch {
    throw new Problem(
      "This cannot be read. If it is a folder, choose the pictures in it; if it was moved or changed, choose it again.",
    );
  }
}

/** Reads the size of a PNG, GIF or BMP from its header; null for anything else. */
export async function declaredSize(file) {
  const header = new DataView(await startOf(file, 26));
  if (header.byteLength < 26) return null;
  const start = header.getUint32(0);
  if (start === 0x89504e47) return [header.getUint32(16), header.getUint32(20)];
  if (start === 0x47494638) return [header.getUint16(6, true), header.getUint16(8, true)];
  if (isBmp(header)) return [header.getInt32(18, true), Math.abs(header.getInt32(22, true))];
  return null;
}

/** Says whether a file begins as a BMP does: a text may begin with BM, too. */
function isBmp(header) {
  const lengths = [40, 52, 56, 64, 108, 124]; // of the header's second part
  return header.byteLength >= 18 && header.getUint16(0) === 0x424d && lengths.includes(header.getUint32(14, true));
}

/** Says why a browser cannot show a file. */
export async function whyNot(file) {
  const bytes = await startOf(file, 26);
  const start = String.fromCharCode(...new Uint8Array(bytes.slice(0, 12)));
  if (start.slice(4, 8) === "ftyp" && HEIC.includes(start.slice(8, 12))) {
    return (
      "This browser cannot read HEIC pictures. Open it in your photo app and export it as JPEG; or set an iPhone to " +
      "take JPEGs: Settings, Camera, Formats, Most Compatible."
    );
  }
  if (/^(\xff\xd8\xff|\x89PNG|RIFF[^]{4}WEBP|GIF8|[^]{4}ftypavi[fs])/.test(start) || isBmp(new DataView(bytes))) {
    return (
      "The file begins like a picture but is damaged or incomplete, or this device has too little memory for it. Check " +
      "it in a picture viewer, and save it again."
    );
  }
  return "This is not a picture that can be read. Expected a JPEG, PNG, WebP, AVIF, GIF or BMP file.";
}

/**
 * Draws a part of a picture upright, on white, and still, should it move.
 *
 * @param {object} picture As `inspect` gives it; its `source` may also be a bitmap.
 * @param {number} longest Pixels of the longer side at most.
 * @param {number[]} box Left, top, right and bottom of the part, fractions of the picture.
 * @returns {Promise<{source: Blob, width: number, height: number}>} The copy, a JPEG.
 */
export async function copyOf(picture, longest, box = [0, 0, 1, 1]) {
  const part = [(box[2] - box[0]) * picture.width, (box[3] - box[1]) * picture.height];
  const scale = Math.min(1, longest / Math.max(...part));
  const [width, height] = part.map((side) => Math.max(1, Math.round(scale * side)));
  const bitmap = await opened(picture, scale * Math.max(picture.width, picture.height));
  const canvas = make("canvas", { width, height });
  const context = canvas.getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, -box[0] * bitmap.width, -box[1] * bitmap.height);
  if (bitmap !== picture.source) bitmap.close();
  const source = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", JPEG_QUALITY));
  return { source, width, height };
}

/** Gives the digest of a file; "" where the browser computes none, in an insecure context, or cannot read it. */
export async function sha256(file) {
  try {
    const digest = await crypto.subtle.digest("SHA-256", await file.arrayBuffer());
    return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
  } catch {
    return "";
  }
}

/** Decodes a picture as `decode` does; throws a `Problem` for a damaged one. */
export async function opened(picture, longest) {
  try {
    return await decode(picture, longest);
  } catch {
    throw new Problem(await whyNot(picture.source));
  }
}
