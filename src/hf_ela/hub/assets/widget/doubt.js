/** Why a picture allows no certain verdict, whatever the model: `hf_ela/models/doubt.py` in Python. */

import { contents } from "./contents.js";
import { pixelSide } from "./views.js";

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
  const { smooth, twoTones, monochrome, noise } = await contents(picture);
  if (smooth) return "nothing to see: one colour, a gradient or a blur";
  if (twoTones) return "hardly more than two tones: text, a diagram or a drawing in ink";
  if (monochrome) return "one colour: the model is wrong too often about grey and toned pictures";
  if (noise) return "noise: too much of the finest detail";
  return "";
}
