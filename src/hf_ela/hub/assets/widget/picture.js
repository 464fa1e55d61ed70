/** A file of an image, decoded: any part of its RGB pixels, as `load_image` gives them. */

import { readFacts } from "./facts.js";
import { readHeader } from "./header.js";

const MAX_PIXELS = 64e6;
const MAX_BYTES = 100e6;
/** The background of transparent pixels, as in `hf_ela/images/loading.py`. */
const MID_GREY = 128;

/** The stored values: ELA needs these, not those of a display. */
const AS_STORED = { colorSpaceConversion: "none", premultiplyAlpha: "none" };

/** Why a file is refused, in words for a person. */
export class PictureError extends Error {}

/** An upright image. */
export class Picture {
  /**
   * @param {ImageBitmap} bitmap
   * @param {string} [unlike] what the file is, if Python decodes other pixels from it
   * @param {import("./facts.js").Facts} [facts] of the file
   */
  constructor(bitmap, unlike, facts) {
    Object.assign(this, { bitmap, unlike, facts });
    this.width = bitmap.width;
    this.height = bitmap.height;
  }

  /**
   * @param {Blob} file
   * @returns {Promise<Picture>}
   * @throws {PictureError}
   */
  static async open(file) {
    if (!file.size) throw new PictureError("the file is empty");
    if (file.size > MAX_BYTES) {
      throw new PictureError(`it has ${megabytes(file.size)}; the limit is ${megabytes(MAX_BYTES)}`);
    }
    const bytes = new Uint8Array(await file.arrayBuffer());
    const header = readHeader(bytes);
    if (!header) throw new PictureError("it is not a JPEG, PNG, WebP, AVIF, GIF or BMP file");
    if (header.width * header.height > MAX_PIXELS) {
      throw new PictureError(
        `it has ${header.width} × ${header.height} pixels; the limit is ${MAX_PIXELS / 1e6} million`,
      );
    }
    try {
      const options = { ...AS_STORED, imageOrientation: "from-image" };
      const bitmap = await createImageBitmap(file, options);
      return new Picture(bitmap, header.unlike, readFacts(bytes, header));
    } catch {
      throw new PictureError("it is corrupt or truncated, or this browser does not support it");
    }
  }

  /**
   * Return a part of the image that lies within it.
   * @param {number} x @param {number} y upper left corner
   * @param {number} width @param {number} height
   * @returns {Promise<Uint8Array>} three bytes a pixel, row by row
   */
  async rgb(x, y, width, height) {
    let rgba = read2d(this.bitmap, x, y, width, height);
    // A 2D canvas multiplies colours by their alpha and rounds: half-transparent ones are lost.
    if (!isOpaque(rgba)) rgba = (await readGl(this.bitmap, x, y, width, height)) ?? rgba;
    return overGrey(rgba);
  }

  /**
   * Return the image for the page.
   * @param {number} longest side, in pixels
   * @returns {ImageBitmap}
   */
  thumbnail(longest) {
    const scale = Math.min(1, longest / Math.max(this.width, this.height));
    const side = (length) => Math.max(1, Math.round(length * scale));
    const canvas = new OffscreenCanvas(side(this.width), side(this.height));
    const context = canvas.getContext("2d");
    context.fillStyle = `rgb(${MID_GREY} ${MID_GREY} ${MID_GREY})`;
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.imageSmoothingQuality = "high";
    context.drawImage(this.bitmap, 0, 0, canvas.width, canvas.height);
    return canvas.transferToImageBitmap();
  }

  /** Free its memory. */
  close() {
    this.bitmap.close();
  }
}

/**
 * Return whether this browser gives pages the true pixels: some alter them to prevent tracking.
 * @returns {Promise<boolean>}
 */
export async function pixelsAreTrue() {
  const data = new ImageData(16, 16);
  data.data.forEach((_, i, all) => (all[i] = i % 4 === 3 ? 255 : (i * 37 + (i >> 3)) & 255));
  const picture = new Picture(await createImageBitmap(data, AS_STORED));
  const rgb = await picture.rgb(0, 0, 16, 16);
  picture.close();
  return rgb.every((value, i) => value === data.data[Math.floor(i / 3) * 4 + (i % 3)]);
}

const megabytes = (bytes) => `${Math.ceil(bytes / 1e6)} MB`;

function read2d(bitmap, x, y, width, height) {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, -x, -y);
  return context.getImageData(0, 0, width, height).data;
}

/** The same through WebGL, which keeps colour and alpha apart; null without WebGL. */
async function readGl(bitmap, x, y, width, height) {
  const gl = new OffscreenCanvas(1, 1).getContext("webgl2");
  if (!gl) return null;
  const part = await createImageBitmap(bitmap, x, y, width, height, AS_STORED);
  const rgba = new Uint8Array(width * height * 4);
  gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
  gl.pixelStorei(gl.UNPACK_COLORSPACE_CONVERSION_WEBGL, gl.NONE);
  gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, part);
  gl.bindFramebuffer(gl.FRAMEBUFFER, gl.createFramebuffer());
  const texture = gl.getParameter(gl.TEXTURE_BINDING_2D);
  gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, texture, 0);
  gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, rgba);
  const worked = gl.getError() === gl.NO_ERROR;
  part.close();
  gl.getExtension("WEBGL_lose_context")?.loseContext(); // a browser allows only a few at a time
  return worked ? rgba : null;
}

function isOpaque(rgba) {
  for (let i = 3; i < rgba.length; i += 4) if (rgba[i] !== 255) return false;
  return true;
}

/** Lay RGBA over grey in Pillow's arithmetic (Paste.c, `BLEND`): a division by 255 that rounds. */
function overGrey(rgba) {
  const rgb = new Uint8Array((rgba.length / 4) * 3);
  for (let i = 0, k = 0; i < rgba.length; i += 4, k += 3) {
    const alpha = rgba[i + 3];
    const below = MID_GREY * (255 - alpha) + 128;
    for (let c = 0; c < 3; c++) {
      const sum = rgba[i + c] * alpha + below;
      rgb[k + c] = ((sum >> 8) + sum) >> 8;
    }
  }
  return rgb;
}
