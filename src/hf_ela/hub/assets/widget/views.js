/** The parts of an image that the network sees, and their pixels: `hf_ela/ela/views.py`. */

import { resized } from "./resample.js";

/** Pixels between the corner of a view and a block of the file's JPEG grid. */
const OFF_GRID = 4;

/**
 * A rectangle of an image, in pixels; (x, y) is its upper left corner.
 * @typedef {{x: number, y: number, width: number, height: number}} Box
 */

/**
 * Return the part that each view shows.
 * @param {number} width @param {number} height of what `fitted` gives
 * @param {{kind: string, size: number, grid: number}} input of the recipe
 * @returns {Box[]}
 */
export function viewBoxes(width, height, input) {
  if (input.kind === "resize") return [{ x: 0, y: 0, width, height }];
  const part = (at, length) => Math.min(input.size, length - at);
  const xs = steps(width, input);
  return steps(height, input).flatMap((y) =>
    xs.map((x) => ({ x, y, width: part(x, width), height: part(y, height) })),
  );
}

/** Ratio of sides up to which `shortest_side` decides the size of a picture. */
const WIDEST = 4;

/**
 * Return the picture from which views are cut, in the size that the recipe gives it.
 * @param {import("./picture.js").Picture} picture
 * @param {{longest_side?: number, shortest_side?: number}} input of the recipe
 * @returns {Promise<{width: number, height: number, rgb: import("./resample.js").ReadRgb}>}
 */
export async function fitted(picture, { longest_side: longest, shortest_side: shortest }) {
  const [low, high] = [picture.width, picture.height].sort((a, b) => a - b);
  let factor = longest ? Math.min(longest / high, 1) : 1;
  if (shortest) factor = shortest * Math.min(1 / low, WIDEST / high);
  if (factor === 1) return picture;
  const length = (side) => Math.max(1, Math.floor(side * factor + 0.5));
  const [width, height] = [length(picture.width), length(picture.height)];
  const rgb = await resized(picture, width, height);
  return { width, height, rgb: async (...part) => cut(rgb, width, ...part) };
}

/** Return where a part of `small` lies in `large`, to whole pixels. */
export function enlarged(box, small, large) {
  const across = (x) => Math.floor(x * (large.width / small.width) + 0.5);
  const down = (y) => Math.floor(y * (large.height / small.height) + 0.5);
  const [x, y] = [across(box.x), down(box.y)];
  const width = Math.max(across(box.x + box.width) - x, 1);
  return { x, y, width, height: Math.max(down(box.y + box.height) - y, 1) };
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
  if (input.kind === "resize") return resized(picture, input.before, input.before);
  const rgb = await picture.rgb(box.x, box.y, box.width, box.height);
  return mirrored(rgb, box.width, box.height, input.size);
}

/** Corners four pixels off the grid of JPEG blocks, as `_steps` says and why. */
function steps(length, { size, grid }) {
  if (length <= OFF_GRID) return Array(grid).fill(0);
  const room = Math.max(length - size, 0);
  return Array.from({ length: grid }, (_, i) => {
    const place = grid === 1 ? room / 2 : i === grid - 1 ? room : i * (room / (grid - 1));
    const low = Math.max(Math.min(Math.trunc(place), room - OFF_GRID), 0);
    return Math.floor(low / 8) * 8 + OFF_GRID;
  });
}

/** Cut a part out of pixels, three bytes each. */
function cut(rgb, stride, x, y, width, height) {
  const part = new Uint8Array(width * height * 3);
  for (let row = 0; row < height; row++) {
    const from = ((y + row) * stride + x) * 3;
    part.set(rgb.subarray(from, from + width * 3), row * width * 3);
  }
  return part;
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
