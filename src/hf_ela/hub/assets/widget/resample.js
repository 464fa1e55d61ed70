/** Pillow's bicubic resize of 8 bits (Resample.c), exact: two passes, 22 bits after the point. */

const PRECISION = 22;
const SUPPORT = 2;
/** Pixels per read: a large image is never whole in memory. */
const STRIP = 2 ** 21;

/**
 * @callback ReadRgb
 * @param {number} x @param {number} y @param {number} width @param {number} height
 * @returns {Promise<Uint8Array>} that part of an image, three bytes a pixel
 */

/**
 * Return an image in another size, as `image.resize((across, down))`.
 * @param {{width: number, height: number, rgb: ReadRgb}} picture
 * @param {number} across new width
 * @param {number} down new height
 * @returns {Promise<Uint8Array>} down x across x 3
 */
export async function resized(picture, across, down) {
  const { width, height } = picture;
  // Since Pillow 13; earlier ones go across first always. Both passes round.
  const downFirst = height > down && height - down > 2 * (width - across);
  return (downFirst ? downThenAcross : acrossThenDown)(picture, across, down);
}

async function acrossThenDown(picture, across, down) {
  const { width, height } = picture;
  const narrow = new Uint8Array(across * height * 3);
  const taps = weights(width, across);
  const step = Math.ceil(STRIP / width);
  for (let top = 0; top < height; top += step) {
    const strip = await picture.rgb(0, top, width, Math.min(step, height - top));
    narrow.set(horizontal(strip, width, taps), top * across * 3);
  }
  return vertical(narrow, across, weights(height, down));
}

async function downThenAcross(picture, across, down) {
  const { width, height } = picture;
  const low = new Uint8Array(width * down * 3);
  const taps = weights(height, down);
  const step = Math.ceil(STRIP / height);
  for (let left = 0; left < width; left += step) {
    const wide = Math.min(step, width - left);
    const strip = vertical(await picture.rgb(left, 0, wide, height), wide, taps);
    for (let y = 0; y < down; y++) {
      low.set(strip.subarray(y * wide * 3, (y + 1) * wide * 3), (y * width + left) * 3);
    }
  }
  return horizontal(low, width, weights(width, across));
}

/**
 * Where each new pixel looks, and with which weights (`precompute_coeffs`, `normalize_coeffs_8bpc`).
 * @returns {{first: number, fixed: Int32Array}[]}
 */
function weights(before, after) {
  const scale = before / after;
  const stretch = Math.max(scale, 1);
  const support = SUPPORT * stretch;
  return Array.from({ length: after }, (_, at) => {
    const center = (at + 0.5) * scale;
    const first = Math.max(Math.trunc(center - support + 0.5), 0);
    const last = Math.min(Math.trunc(center + support + 0.5), before);
    const values = [];
    for (let x = first; x < last; x++) values.push(bicubic((x - center + 0.5) * (1 / stretch)));
    const sum = values.reduce((a, b) => a + b, 0);
    const whole = (value) => Math.trunc((value < 0 ? -0.5 : 0.5) + value * (1 << PRECISION));
    return { first, fixed: Int32Array.from(values, (value) => whole(value / sum)) };
  });
}

function bicubic(distance) {
  const a = -0.5;
  const x = Math.abs(distance);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

function horizontal(rgb, width, taps) {
  if (taps.length === width) return rgb;
  const rows = rgb.length / (width * 3);
  const result = new Uint8ClampedArray(rows * taps.length * 3); // its type clamps as Pillow does
  let to = 0;
  for (let y = 0; y < rows; y++) {
    for (const { first, fixed } of taps) {
      const from = (y * width + first) * 3;
      for (let c = 0; c < 3; c++) result[to++] = weighted(rgb, from + c, 3, fixed);
    }
  }
  return new Uint8Array(result.buffer);
}

function vertical(rgb, width, taps) {
  const row = width * 3;
  if (taps.length * row === rgb.length) return rgb;
  const result = new Uint8ClampedArray(taps.length * row);
  taps.forEach(({ first, fixed }, y) => {
    for (let x = 0; x < row; x++) result[y * row + x] = weighted(rgb, first * row + x, row, fixed);
  });
  return new Uint8Array(result.buffer);
}

function weighted(values, from, step, fixed) {
  let sum = 1 << (PRECISION - 1);
  for (let i = 0; i < fixed.length; i++) sum += values[from + i * step] * fixed[i];
  return sum >> PRECISION;
}
