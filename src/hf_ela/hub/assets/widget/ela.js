/** The familiar picture of the error levels of an image: `ela` of `hf_ela/models/explain.py`. */

import { roundTrip } from "./jpeg.js";

/** Rows per step: the page stays responsive, and memory does not grow. */
const STRIP = 256;
/** Rows above and below a strip that its pixels depend on: one block of chroma. */
const MARGIN = 16;
/** Share of the levels that are not clipped when they are brightened. */
const SHARE = 0.995;

/**
 * Return the absolute error levels, brightened until one in 200 is 255.
 *
 * Every pixel counts: in the result of an image larger than `longest`, each is the mean of a square.
 * @param {{width: number, height: number, rgb: import("./resample.js").ReadRgb}} picture
 * @param {number} quality from 1 to 100
 * @param {number} longest side of the result, in pixels
 * @param {(share: number) => Promise<boolean>} goOn is told the share done; false ends the work
 * @returns {Promise<ImageData | null>} null when ended
 */
export async function errorLevels(picture, quality, longest, goOn) {
  const { width, height } = picture;
  const factor = Math.ceil(Math.max(width, height) / longest);
  const sums = new Sums(Math.ceil(width / factor), Math.ceil(height / factor), factor);
  const counts = new Float64Array(256);
  for (let top = 0; top < height; top += STRIP) {
    if (!(await goOn(top / height))) return null;
    const bottom = Math.min(top + STRIP, height);
    const from = Math.max(top - MARGIN, 0);
    const to = Math.min(bottom + MARGIN, height);
    const rgb = await picture.rgb(0, from, width, to - from);
    const coded = roundTrip(rgb, width, to - from, quality);
    for (let y = top; y < bottom; y++) {
      const row = (y - from) * width * 3;
      for (let i = row; i < row + width * 3; i++) {
        const level = Math.abs(coded[i] - rgb[i]);
        counts[level] += 1;
        coded[i] = level;
      }
      sums.addRow(coded.subarray(row, row + width * 3), y);
    }
  }
  return sums.brightened(255 / Math.max(atShare(counts, SHARE * width * height * 3), 1));
}

/** The level up to which so many of them go. */
function atShare(counts, wanted) {
  let upTo = 0;
  return counts.findIndex((count) => (upTo += count) >= wanted);
}

/** The levels of the result's pixels, while they are added up. */
class Sums {
  constructor(width, height, factor) {
    Object.assign(this, { width, height, factor });
    this.levels = new Uint32Array(width * height * 3);
    this.pixels = new Uint32Array(width * height);
  }

  addRow(levels, y) {
    const row = Math.floor(y / this.factor) * this.width;
    for (let x = 0, i = 0; i < levels.length; x++, i += 3) {
      const at = row + Math.floor(x / this.factor);
      this.pixels[at] += 1;
      for (let c = 0; c < 3; c++) this.levels[at * 3 + c] += levels[i + c];
    }
  }

  brightened(gain) {
    const data = new ImageData(this.width, this.height);
    for (let at = 0; at < this.pixels.length; at++) {
      for (let c = 0; c < 3; c++) {
        const mean = this.levels[at * 3 + c] / this.pixels[at];
        data.data[at * 4 + c] = mean * gain; // the array rounds half to even and clamps, as NumPy
      }
      data.data[at * 4 + 3] = 255;
    }
    return data;
  }
}
