/** Which parts of an image the network is shown, and their pixels: `hf_ela/views.py`. */

import { resized } from "./resample.js";

/**
 * A rectangle of an image, in pixels; (x, y) is its upper left corner.
 * @typedef {{x: number, y: number, width: number, height: number}} Box
 */

/**
 * Return the part that each view shows.
 * @param {number} width @param {number} height of the image
 * @param {{kind: string, size: number, grid: number}} input of the recipe
 * @returns {Box[]}
 */
export function viewBoxes(width, height, input) {
  if (input.kind === "resize") return [{ x: 0, y: 0, width, height }];
  const wide = Math.min(input.size, width);
  const high = Math.min(input.size, height);
  const xs = steps(width, input);
  return steps(height, input).flatMap((y) => xs.map((x) => ({ x, y, width: wide, height: high })));
}

/** Length of a side of the model's input. */
export const pixelSide = (input) => (input.kind === "resize" ? input.before : input.size);

/**
 * Return the pixels of one view, `pixelSide` square.
 * @param {import("./picture.js").Picture} picture
 * @param {Box} box
 * @param {object} input of the recipe
 * @returns {Promise<Uint8Array>}
 */
export async function viewPixels(picture, box, input) {
  if (input.kind === "resize") return resized(picture, input.before);
  const rgb = await picture.rgb(box.x, box.y, box.width, box.height);
  return mirrored(rgb, box.width, box.height, input.size);
}

/** Corners four pixels off the grid of JPEG blocks, as `_steps` says and why. */
function steps(length, { size, grid }) {
  const room = Math.max(length - size, 0);
  return Array.from({ length: grid }, (_, i) => {
    const place = grid === 1 ? room / 2 : i === grid - 1 ? room : i * (room / (grid - 1));
    const low = Math.max(Math.min(Math.trunc(place), room - 4), 0);
    return Math.min(Math.floor(low / 8) * 8 + 4, room); // a room below 4 leaves no choice
  });
}

/** Mirror an image that is smaller than a square at its right and lower edges until it fills it. */
function mirrored(rgb, width, height, side) {
  if (width === side && height === side) return rgb;
  const result = new Uint8Array(side * side * 3);
  for (let y = 0, to = 0; y < side; y++) {
    for (let x = 0; x < side; x++) {
      const from = (mirror(y, height) * width + mirror(x, width)) * 3;
      for (let c = 0; c < 3; c++) result[to++] = rgb[from + c];
    }
  }
  return result;
}

function mirror(at, length) {
  const within = at % (2 * length);
  return within < length ? within : 2 * length - 1 - within;
}
