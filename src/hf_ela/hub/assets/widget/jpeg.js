/**
 * The JPEG round trip in integers, equal to Pillow's to the last bit: `hf_ela/ela/tensor_jpeg.py` for
 * the browser, at 4:2:0. Entropy coding is lossless and left out.
 *
 * Sources: ITU-T T.81 (JPEG) and T.871 (its colours); libjpeg-turbo 3 `jccolor.c`, `jcsample.c`,
 * `jfdctint.c`, `jcdctmgr.c`, `jidctint.c`, `jdsample.c`, `jdcolor.c`, after which things are named.
 * All sums stay below 2**31, which `>>` needs.
 */

// ITU-T T.81, Annex K.1: tables K.1 (luminance) and K.2 (chrominance).
const LUMA = [
  16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55,
  14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
  18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
  49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
];
const CHROMA = [
  17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99,
  24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99,
  ...new Array(32).fill(99),
];

/**
 * Return an RGB image after JPEG encoding and decoding.
 * @param {Uint8Array} rgb three bytes a pixel, row by row
 * @param {number} width of the image, in pixels
 * @param {number} height of the image, in pixels
 * @param {number} quality from 1 to 100
 * @returns {Uint8Array} as `rgb`
 */
export function roundTrip(rgb, width, height, quality) {
  const [y, cb, cr] = toYcc(rgb, width * height);
  const [lumaTable, chromaTable] = tablesOf(quality);
  const luma = recoded({ data: y, width, height }, lumaTable);
  const [blue, red] = [cb, cr].map((data) => {
    const half = recoded(halved({ data, width, height }), chromaTable);
    return doubled(half, (width + 1) >> 1, (height + 1) >> 1, width, height);
  });
  return toRgb(luma.data, blue, red);
}

/**
 * One channel of an image.
 * @typedef {{data: Uint8Array, width: number, height: number}} Plane
 */

/**
 * The tables of a quality: `jpeg_quality_scaling` and `jpeg_add_quant_table`, baseline.
 * @param {number} quality from 1 to 100
 * @returns {[number[], number[]]} for luma and chroma, in natural order
 */
export function tablesOf(quality) {
  const scale = quality < 50 ? Math.floor(5000 / quality) : 200 - 2 * quality;
  const scaled = (q) => Math.min(Math.max(Math.floor((q * scale + 50) / 100), 1), 255);
  return [LUMA.map(scaled), CHROMA.map(scaled)];
}

// ------------------------------------------------------------------------------------------ colour

/** RGB to YCbCr (jccolor.c): 16 bits after the point, Cb and Cr rounded a little down. */
function toYcc(rgb, pixels) {
  const planes = [new Uint8Array(pixels), new Uint8Array(pixels), new Uint8Array(pixels)];
  const [luma, blue, red] = planes;
  const half = 1 << 15;
  const center = (128 << 16) + half - 1;
  for (let i = 0, k = 0; i < pixels; i++, k += 3) {
    const r = rgb[k], g = rgb[k + 1], b = rgb[k + 2];
    luma[i] = (19595 * r + 38470 * g + 7471 * b + half) >> 16;
    blue[i] = (-11059 * r - 21709 * g + 32768 * b + center) >> 16;
    red[i] = (32768 * r - 27439 * g - 5329 * b + center) >> 16;
  }
  return planes;
}

/** YCbCr to RGB (jdcolor.c); the array type clamps to 0..255. */
function toRgb(luma, blue, red) {
  const rgb = new Uint8ClampedArray(luma.length * 3);
  const half = 1 << 15;
  for (let i = 0, k = 0; i < luma.length; i++, k += 3) {
    const y = luma[i], cb = blue[i] - 128, cr = red[i] - 128;
    rgb[k] = y + ((91881 * cr + half) >> 16);
    rgb[k + 1] = y + ((-22554 * cb - 46802 * cr + half) >> 16);
    rgb[k + 2] = y + ((116130 * cb + half) >> 16);
  }
  return new Uint8Array(rgb.buffer);
}

// ------------------------------------------------------------------------------ chroma subsampling

/**
 * Average 2 x 2 pixels (jcsample.c), up to the edge of the last block to the right. Half a unit is
 * rounded up in every other column, so that nothing drifts.
 */
function halved({ data, width, height }) {
  const wide = Math.ceil(width / 16) * 8;
  const high = (height + 1) >> 1;
  const small = new Uint8Array(wide * high);
  for (let y = 0; y < high; y++) {
    const upper = 2 * y * width;
    const lower = Math.min(2 * y + 1, height - 1) * width;
    for (let x = 0; x < wide; x++) {
      const left = Math.min(2 * x, width - 1);
      const right = Math.min(2 * x + 1, width - 1);
      const sum = data[upper + left] + data[upper + right] + data[lower + left] + data[lower + right];
      small[y * wide + x] = (sum + 1 + (x & 1)) >> 2;
    }
  }
  return { data: small, width: wide, height: high };
}

/** Enlarge by triangle weights 3/4 and 1/4 each way (jdsample.c); by copying where narrow. */
function doubled({ data, width: stride }, wide, high, width, height) {
  const large = new Uint8Array(width * height);
  if (wide <= 2) {
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) large[y * width + x] = data[(y >> 1) * stride + (x >> 1)];
    }
    return large;
  }
  const sums = new Int32Array(wide);
  for (let y = 0; y < height; y++) {
    const near = (y >> 1) * stride;
    const other = (y >> 1) + (y & 1 ? 1 : -1);
    const far = Math.min(Math.max(other, 0), high - 1) * stride;
    for (let x = 0; x < wide; x++) sums[x] = 3 * data[near + x] + data[far + x];
    for (let x = 0; x < width; x++) {
      const at = x >> 1;
      const beside = x & 1 ? Math.min(at + 1, wide - 1) : Math.max(at - 1, 0);
      large[y * width + x] = (3 * sums[at] + sums[beside] + (x & 1 ? 7 : 8)) >> 4;
    }
  }
  return large;
}

// ------------------------------------------------------------------------------------------ blocks

/**
 * Transform, quantise and transform back, block by block; the last row and column fill a block.
 * @param {Plane} plane
 * @param {number[]} table
 * @returns {Plane}
 */
function recoded({ data, width, height }, table) {
  const result = new Uint8Array(width * height);
  const block = new Int32Array(64);
  for (let top = 0; top < height; top += 8) {
    for (let left = 0; left < width; left += 8) {
      for (let i = 0; i < 64; i++) {
        const y = Math.min(top + (i >> 3), height - 1);
        const x = Math.min(left + (i & 7), width - 1);
        block[i] = data[y * width + x] - 128;
      }
      for (let row = 0; row < 64; row += 8) forward(block, row, 1, CONST_BITS - PASS1_BITS);
      for (let column = 0; column < 8; column++) forward(block, column, 8, CONST_BITS + PASS1_BITS);
      quantise(block, table);
      for (let column = 0; column < 8; column++) inverse(block, column, 8, CONST_BITS - PASS1_BITS);
      for (let row = 0; row < 64; row += 8) inverse(block, row, 1, CONST_BITS + PASS1_BITS + 3);
      const high = Math.min(8, height - top);
      const wide = Math.min(8, width - left);
      for (let y = 0; y < high; y++) {
        for (let x = 0; x < wide; x++) {
          const value = block[y * 8 + x] + 128;
          result[(top + y) * width + left + x] = value < 0 ? 0 : value > 255 ? 255 : value;
        }
      }
    }
  }
  return { data: result, width, height };
}

/** Divide by the table, round half away from zero (jcdctmgr.c), and multiply again. */
function quantise(block, table) {
  for (let i = 0; i < 64; i++) {
    const q = table[i];
    const value = block[i]; // 8 times as large as the standard's
    const level = ((Math.abs(value) + 4 * q) / (8 * q)) | 0;
    block[i] = value < 0 ? -level * q : level * q;
  }
}

// -------------------------------------------------------------------------------- cosine transform
// C. Loeffler, A. Ligtenberg, G. Moschytz, "Practical Fast 1-D DCT Algorithms with 11
// Multiplications", ICASSP 1989. Constants as jfdctint.c has them, of CONST_BITS.

const CONST_BITS = 13;
const PASS1_BITS = 2;
const FIX_0_298631336 = 2446;
const FIX_0_390180644 = 3196;
const FIX_0_541196100 = 4433;
const FIX_0_765366865 = 6270;
const FIX_0_899976223 = 7373;
const FIX_1_175875602 = 9633;
const FIX_1_501321110 = 12299;
const FIX_1_847759065 = 15137;
const FIX_1_961570560 = 16069;
const FIX_2_053119869 = 16819;
const FIX_2_562915447 = 20995;
const FIX_3_072711026 = 25172;

/** Eight values from `at` on, `step` apart, in place; so many `bits` are rounded off. */
function forward(x, at, step, bits) {
  const i1 = at + step, i2 = i1 + step, i3 = i2 + step, i4 = i3 + step;
  const i5 = i4 + step, i6 = i5 + step, i7 = i6 + step;
  const half = 1 << (bits - 1);
  const tmp0 = x[at] + x[i7], tmp7 = x[at] - x[i7];
  const tmp1 = x[i1] + x[i6], tmp6 = x[i1] - x[i6];
  const tmp2 = x[i2] + x[i5], tmp5 = x[i2] - x[i5];
  const tmp3 = x[i3] + x[i4], tmp4 = x[i3] - x[i4];
  const tmp10 = tmp0 + tmp3, tmp13 = tmp0 - tmp3;
  const tmp11 = tmp1 + tmp2, tmp12 = tmp1 - tmp2;
  const even = (tmp12 + tmp13) * FIX_0_541196100 + half;
  const z5 = (tmp4 + tmp5 + tmp6 + tmp7) * FIX_1_175875602 + half;
  const z1 = (tmp4 + tmp7) * -FIX_0_899976223;
  const z2 = (tmp5 + tmp6) * -FIX_2_562915447;
  const z3 = (tmp4 + tmp6) * -FIX_1_961570560 + z5;
  const z4 = (tmp5 + tmp7) * -FIX_0_390180644 + z5;
  x[at] = ((tmp10 + tmp11) * (1 << CONST_BITS) + half) >> bits;
  x[i4] = ((tmp10 - tmp11) * (1 << CONST_BITS) + half) >> bits;
  x[i2] = (even + tmp13 * FIX_0_765366865) >> bits;
  x[i6] = (even - tmp12 * FIX_1_847759065) >> bits;
  x[i7] = (tmp4 * FIX_0_298631336 + z1 + z3) >> bits;
  x[i5] = (tmp5 * FIX_2_053119869 + z2 + z4) >> bits;
  x[i3] = (tmp6 * FIX_3_072711026 + z2 + z3) >> bits;
  x[i1] = (tmp7 * FIX_1_501321110 + z1 + z4) >> bits;
}

/** The inverse of `forward`, but for the scale. */
function inverse(x, at, step, bits) {
  const i1 = at + step, i2 = i1 + step, i3 = i2 + step, i4 = i3 + step;
  const i5 = i4 + step, i6 = i5 + step, i7 = i6 + step;
  const half = 1 << (bits - 1);
  const even = (x[i2] + x[i6]) * FIX_0_541196100;
  const tmp2 = even - x[i6] * FIX_1_847759065;
  const tmp3 = even + x[i2] * FIX_0_765366865;
  const tmp0 = (x[at] + x[i4]) * (1 << CONST_BITS) + half;
  const tmp1 = (x[at] - x[i4]) * (1 << CONST_BITS) + half;
  const z5 = (x[i1] + x[i3] + x[i5] + x[i7]) * FIX_1_175875602;
  const z1 = (x[i7] + x[i1]) * -FIX_0_899976223;
  const z2 = (x[i5] + x[i3]) * -FIX_2_562915447;
  const z3 = (x[i7] + x[i3]) * -FIX_1_961570560 + z5;
  const z4 = (x[i5] + x[i1]) * -FIX_0_390180644 + z5;
  const odd0 = x[i7] * FIX_0_298631336 + z1 + z3;
  const odd1 = x[i5] * FIX_2_053119869 + z2 + z4;
  const odd2 = x[i3] * FIX_3_072711026 + z2 + z3;
  const odd3 = x[i1] * FIX_1_501321110 + z1 + z4;
  x[at] = (tmp0 + tmp3 + odd3) >> bits;
  x[i7] = (tmp0 + tmp3 - odd3) >> bits;
  x[i1] = (tmp1 + tmp2 + odd2) >> bits;
  x[i6] = (tmp1 + tmp2 - odd2) >> bits;
  x[i2] = (tmp1 - tmp2 + odd1) >> bits;
  x[i5] = (tmp1 - tmp2 - odd1) >> bits;
  x[i3] = (tmp0 - tmp3 + odd0) >> bits;
  x[i4] = (tmp0 - tmp3 - odd0) >> bits;
}
