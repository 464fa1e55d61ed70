/** What a picture shows, as far as pixels tell: `hf_ela/images/contents.py` and `traces.py` in Python. */

const SMOOTH = 6;
const SMOOTH_SHARE = 0.01;
const GRAIN = 4;
const GRAINY = 64;
const ONE_COLOUR = 2;
const STEP = 4;
const LUMA = [0.299, 0.587, 0.114];
const COLOUR = [
  [1, -1, 0],
  [0, -1, 1],
];
const NEAR = 8;
const TWO_TONES = 0.88;
const SIDE = 512;
const FEWEST_SIDE = 64;
const FINE = [0.3, 0.5];
const COARSE = [0.08, 0.16];
const NOISE = 10 ** -0.6;
/** Longest side, in pixels, from which on a picture is averaged over squares. */
const LONGEST = 1024;
/** Pixels that are read at a time. */
const BAND = 2 ** 20;

/**
 * @param {import("./picture.js").Picture} picture
 * @returns {Promise<{smooth: boolean, twoTones: boolean, monochrome: boolean, noise: boolean}>}
 */
export async function contents(picture) {
  const factor = Math.max(1, Math.floor(Math.max(picture.width, picture.height) / LONGEST));
  const seen = await averaged(picture, factor);
  return {
    smooth: isSmooth(seen),
    twoTones: hasTwoTones(seen.grey),
    monochrome: isMonochrome(seen.moments),
    noise: await isNoise(picture),
  };
}

/** Return whether there is no detail, or none but grain. */
function isSmooth(seen) {
  if (lacksDetail(seen, SMOOTH)) return true;
  if (Math.min(seen.width, seen.height) < 3 * GRAIN) return false;
  return lacksDetail(seen, GRAINY) && lacksDetail(reduced(seen), SMOOTH);
}

function lacksDetail({ grey, width, height }, most) {
  if (Math.min(width, height) < 3) return true;
  let detail = 0;
  for (let y = 1; y < height - 1; y++) {
    for (let x = 1, i = y * width + 1; x < width - 1; x++, i++) {
      const around = grey[i - 1] + grey[i + 1] + grey[i - width] + grey[i + width];
      if (Math.abs(4 * grey[i] - around) > most) detail++;
    }
  }
  return detail < SMOOTH_SHARE * (width - 2) * (height - 2);
}

/** Return a grey picture with squares of `GRAIN` pixels averaged, as Pillow's `reduce`. */
function reduced({ grey, width, height }) {
  const [columns, rows] = [width, height].map((side) => Math.ceil(side / GRAIN));
  const [sums, counts] = [new Uint32Array(columns * rows), new Uint32Array(columns * rows)];
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      const at = Math.floor(y / GRAIN) * columns + Math.floor(x / GRAIN);
      sums[at] += grey[i];
      counts[at]++;
    }
  }
  return { grey: means(sums, counts), width: columns, height: rows };
}

function means(sums, counts) {
  return Uint8Array.from(sums, (sum, at) => Math.floor(sum / counts[at] + 0.5));
}

function hasTwoTones(grey) {
  const counts = new Uint32Array(256);
  for (const tone of grey) counts[tone]++;
  const around = (tone) => {
    let sum = 0;
    for (let at = Math.max(0, tone - NEAR); at <= Math.min(255, tone + NEAR); at++) sum += counts[at];
    return sum;
  };
  const commonest = () => {
    const sums = Array.from(counts, (_, tone) => around(tone));
    const most = Math.max(...sums);
    return [most, sums.indexOf(most)];
  };
  const [first, tone] = commonest();
  counts.fill(0, Math.max(0, tone - NEAR), tone + NEAR + 1);
  const [second] = commonest();
  return first + second > TWO_TONES * grey.length;
}

/** Sums over pixels, for the covariance of red, green and blue. */
class Moments {
  constructor() {
    this.count = 0;
    this.sums = [0, 0, 0];
    this.products = new Float64Array(9);
  }

  add(rgb, i) {
    this.count++;
    for (let a = 0; a < 3; a++) {
      this.sums[a] += rgb[i + a];
      for (let b = 0; b < 3; b++) this.products[3 * a + b] += rgb[i + a] * rgb[i + b];
    }
  }

  /** Return the covariance of two weighted sums of the channels. */
  covariance(left, right) {
    let sum = 0;
    for (let a = 0; a < 3; a++) {
      for (let b = 0; b < 3; b++) {
        const mean = (this.sums[a] / this.count) * (this.sums[b] / this.count);
        sum += left[a] * right[b] * (this.products[3 * a + b] / this.count - mean);
      }
    }
    return sum;
  }
}

function isMonochrome(moments) {
  const bright = moments.covariance(LUMA, LUMA);
  const left = COLOUR.map((colour) => {
    const follows = bright > 1e-9 ? moments.covariance(colour, LUMA) ** 2 / bright : 0;
    return moments.covariance(colour, colour) - follows;
  });
  return left[0] + left[1] < ONE_COLOUR ** 2;
}

/** Return whether the finest detail of the middle is as strong as in noise, along rows and columns. */
async function isNoise(picture) {
  const [width, height] = [picture.width, picture.height].map((side) => Math.min(side, SIDE));
  if (Math.min(width, height) < FEWEST_SIDE) return false;
  const [left, top] = [picture.width, picture.height].map(
    (side) => Math.floor((side - Math.min(side, SIDE)) / 2 / 8) * 8,
  );
  const rgb = await picture.rgb(left, top, width, height);
  const row = (y) => Float64Array.from({ length: width }, (_, x) => luma(rgb, 3 * (y * width + x)));
  const column = (x) => Float64Array.from({ length: height }, (_, y) => luma(rgb, 3 * (y * width + x)));
  return fineDetail(row, width, height) > NOISE && fineDetail(column, height, width) > NOISE;
}

/** Return the power of the finest detail as a share of that of coarser detail, along every fourth line. */
function fineDetail(line, length, lines) {
  const window = Float64Array.from(
    { length },
    (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / (length - 1)),
  );
  const [cosines, sines] = [Math.cos, Math.sin].map((wave) =>
    Float64Array.from({ length }, (_, i) => wave((2 * Math.PI * i) / length)),
  );
  const within = ([low, high]) => {
    const found = [];
    for (let wave = 0; wave <= length >> 1; wave++) {
      if (wave / length >= low && wave / length <= high) found.push(wave);
    }
    return found;
  };
  const bands = [within(FINE), within(COARSE)];
  const sums = [0, 0];
  for (let at = 0; at < lines; at += 4) {
    const values = line(at);
    const mean = values.reduce((a, b) => a + b, 0) / length;
    const shaped = window.map((weight, i) => weight * (values[i] - mean));
    for (const [band, waves] of bands.entries()) {
      for (const wave of waves) {
        let [real, imaginary] = [0, 0];
        for (let i = 0, turn = 0; i < length; i++, turn = (turn + wave) % length) {
          real += shaped[i] * cosines[turn];
          imaginary += shaped[i] * sines[turn];
        }
        sums[band] += (real ** 2 + imaginary ** 2) / waves.length;
      }
    }
  }
  return sums[1] ? sums[0] / sums[1] : 0.1;
}

/** Return the grey of the pixel that begins at a place, as Pillow computes it. */
function luma(rgb, i) {
  return (rgb[i] * 19595 + rgb[i + 1] * 38470 + rgb[i + 2] * 7471 + 0x8000) >> 16;
}

/**
 * Return the grey of a picture, each square of `factor` pixels averaged, as Pillow's `reduce`, and the
 * moments of its colours.
 */
async function averaged(picture, factor) {
  const [width, height] = [picture.width, picture.height].map((side) => Math.ceil(side / factor));
  const [sums, counts] = [new Uint32Array(width * height), new Uint32Array(width * height)];
  const moments = new Moments();
  const rows = Math.max(1, Math.floor(BAND / picture.width));
  for (let top = 0; top < picture.height; top += rows) {
    const band = Math.min(rows, picture.height - top);
    const rgb = await picture.rgb(0, top, picture.width, band);
    for (let y = top, i = 0; y < top + band; y++) {
      for (let x = 0; x < picture.width; x++, i += 3) {
        const at = Math.floor(y / factor) * width + Math.floor(x / factor);
        sums[at] += luma(rgb, i);
        if (y % STEP === 0 && x % STEP === 0) moments.add(rgb, i);
        counts[at]++;
      }
    }
  }
  return { grey: means(sums, counts), width, height, moments };
}
