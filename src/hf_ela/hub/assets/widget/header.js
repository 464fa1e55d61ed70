/**
 * Reads the header of an image file before anything is decoded: a small file can hold a picture that
 * fills all memory.
 */

import { jpegSegments, viewAt } from "./containers.js";

/** How each format is read, by Pillow's name of it. */
const READERS = { PNG: png, GIF: gif, BMP: bmp, WEBP: webp, AVIF: avif, JPEG: jpeg };

/**
 * @param {Uint8Array} bytes of a file
 * @returns {{format: string, width: number, height: number, unlike: string | undefined} | null} null
 *   for formats other than those that every current browser reads: JPEG, PNG, WebP, GIF, BMP, AVIF;
 *   `unlike` describes a file that a browser decodes to other 8-bit RGB than `load_image`
 */
export function readHeader(bytes) {
  const view = viewAt(bytes);
  for (const [format, read] of Object.entries(READERS)) {
    try {
      const [width, height, unlike] = read(view, bytes) ?? [];
      if (width !== undefined) return { format, width, height, unlike };
    } catch (error) {
      if (!(error instanceof RangeError)) throw error; // the file ends before its header does
    }
  }
  return null;
}

/** The text at a place of the file. */
function text(view, at, length) {
  return String.fromCharCode(...new Uint8Array(view.buffer, view.byteOffset + at, length));
}

function png(view) {
  if (view.getUint32(0) !== 0x89504e47) return null;
  const unlike = view.getUint8(24) === 16 ? "a PNG file of 16 bits" : undefined;
  return [view.getUint32(16), view.getUint32(20), unlike];
}

function gif(view) {
  if (text(view, 0, 4) !== "GIF8") return null;
  return [view.getUint16(6, true), view.getUint16(8, true)];
}

function bmp(view) {
  if (text(view, 0, 2) !== "BM") return null;
  if (view.getUint32(14, true) < 40) return [view.getUint16(18, true), view.getUint16(20, true)];
  return [view.getInt32(18, true), Math.abs(view.getInt32(22, true))]; // negative: top row first
}

/** RFC 9649. */
function webp(view) {
  if (text(view, 0, 4) !== "RIFF" || text(view, 8, 4) !== "WEBP") return null;
  const kind = text(view, 12, 4);
  if (kind === "VP8X") {
    const side = (at) => (view.getUint16(at, true) | (view.getUint8(at + 2) << 16)) + 1;
    return [side(24), side(27)];
  }
  if (kind === "VP8L") {
    const bits = view.getUint32(21, true);
    return [(bits & 0x3fff) + 1, ((bits >> 14) & 0x3fff) + 1];
  }
  return [view.getUint16(26, true) & 0x3fff, view.getUint16(28, true) & 0x3fff];
}

/** The largest of the "ispe" properties (ISO/IEC 23008-12): a grid has one for each tile too. */
function avif(view) {
  if (text(view, 4, 4) !== "ftyp" || !text(view, 8, 24).includes("avif")) return null;
  const [width, height] = [[0], [0]];
  for (let at = 8; at < Math.min(view.byteLength - 20, 1 << 16); at++) {
    if (view.getUint32(at) !== 0x69737065) continue;
    width.push(view.getUint32(at + 8));
    height.push(view.getUint32(at + 12));
  }
  return [Math.max(...width), Math.max(...height)];
}

/** The frame header, past segments of other kinds (T.81, table B.1). */
function jpeg(view, bytes) {
  if (view.getUint16(0) !== 0xffd8) return null;
  for (const { marker, body } of jpegSegments(bytes)) {
    const isFrame = marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker);
    if (!isFrame) continue;
    const frame = viewAt(body);
    const unlike = frame.getUint8(5) === 4 ? "a JPEG file in CMYK" : undefined;
    return [frame.getUint16(3), frame.getUint16(1), unlike];
  }
  return null;
}
