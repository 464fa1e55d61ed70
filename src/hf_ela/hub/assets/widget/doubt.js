/** Why a picture allows no certain verdict, whatever the model: `doubt` in `hf_ela/models/detector.py`. */

import { pixelSide } from "./views.js";

/** As in `hf_ela/images/operations.py`. */
const SMOOTH = 6;
const SMOOTH_SHARE = 0.01;
/** Longest side, in pixels, from which on a picture is averaged over squares. */
const LONGEST = 1024;
/** Pixels that are read at a time. */
const BAND = 2 ** 20;

/**
 * @param {import("./picture.js").Picture} picture
 * @param {object} input of the recipe
 * @returns {Promise<string>} the reason, or an empty text
 */
export async function doubt(picture, input) {
  const least = pixelSide(input) >> 1;
  if (Math.min(picture.width, picture.height) < least) {
    return `too small: a side of fewer than ${least} pixels`;
  }
  return (await isSmooth(picture)) ? "nothing to see: one colour, a gradient or a blur" : "";
}

async function isSmooth(picture) {
  const factor = Math.max(1, Math.floor(Math.max(picture.width, picture.height) / LONGEST));
  const { grey, width, height } = await averaged(picture, factor);
  if (Math.min(width, height) < 3) return true;
  let detail = 0;
  for (let y = 1; y < height - 1; y++) {
    for (let x = 1, i = y * width + 1; x < width - 1; x++, i++) {
      const around = grey[i - 1] + grey[i + 1] + grey[i - width] + grey[i + width];
      if (Math.abs(4 * grey[i] - around) > SMOOTH) detail++;
    }
  }
  return detail < SMOOTH_SHARE * (width - 2) * (height - 2);
}

/** Return the grey of a picture, each square of `factor` pixels averaged, as Pillow's `reduce`. */
async function averaged(picture, factor) {
  const [width, height] = [picture.width, picture.height].map((side) => Math.ceil(side / factor));
  const [sums, counts] = [new Uint32Array(width * height), new Uint32Array(width * height)];
  const rows = Math.max(1, Math.floor(BAND / picture.width));
  for (let top = 0; top < picture.height; top += rows) {
    const band = Math.min(rows, picture.height - top);
    const rgb = await picture.rgb(0, top, picture.width, band);
    for (let y = top, i = 0; y < top + band; y++) {
      for (let x = 0; x < picture.width; x++, i += 3) {
        const at = Math.floor(y / factor) * width + Math.floor(x / factor);
        sums[at] += (rgb[i] * 19595 + rgb[i + 1] * 38470 + rgb[i + 2] * 7471 + 0x8000) >> 16;
        counts[at]++;
      }
    }
  }
  const grey = Uint8Array.from(sums, (sum, at) => Math.floor(sum / counts[at] + 0.5));
  return { grey, width, height };
}
