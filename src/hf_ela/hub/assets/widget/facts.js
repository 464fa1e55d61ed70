/** The facts of a file that `ImageInfo` of `hf_ela/images/info.py` has too. */

import { jpegSegments } from "./containers.js";
import { tablesOf } from "./jpeg.js";

const diagonal = (i) => (i >> 3) + (i & 7);
/** Natural order of the values of a table, which a file keeps in zigzag order (T.81, figure A.6). */
const ZIGZAG = [...Array(64).keys()].sort(
  (a, b) => diagonal(a) - diagonal(b) || (diagonal(a) % 2 ? a - b : b - a),
);

/**
 * @typedef {object} Facts
 * @property {string} format
 * @property {number} width @property {number} height as stored, before the picture is turned upright
 * @property {number} size_bytes
 * @property {number | null} jpeg_quality from 1 to 100; null unless a JPEG
 * @property {boolean | null} jpeg_quality_exact whether the tables are those of that very quality
 */

/**
 * @param {Uint8Array} bytes
 * @param {{format: string, width: number, height: number}} header
 * @returns {Facts}
 */
export function readFacts(bytes, { format, width, height }) {
  const [quality, exact] = (format === "JPEG" && estimateQuality(bytes)) || [null, null];
  const size_bytes = bytes.length;
  return { format, width, height, size_bytes, jpeg_quality: quality, jpeg_quality_exact: exact };
}

/** `estimate_quality` of `hf_ela/images/jpeg.py`: the quality with the nearest tables. */
function estimateQuality(bytes) {
  const tables = new Map();
  let used = [];
  for (const { marker, body } of jpegSegments(bytes)) {
    if (marker === 0xdb) readTables(body, tables);
    // The first component is luma; where the second has its own table, it is for chroma.
    if ([0xc0, 0xc1, 0xc2].includes(marker)) used = [...new Set([body[8], body[11]])];
  }
  used = used.filter((number) => number !== undefined);
  if (!used.length || !used.every((number) => tables.has(number))) return null;
  const distances = Array.from({ length: 100 }, (_, i) => {
    const expected = tablesOf(i + 1);
    return used.reduce((sum, number, which) => sum + apart(tables.get(number), expected[which]), 0);
  });
  const least = Math.min(...distances);
  return [distances.indexOf(least) + 1, least === 0];
}

function readTables(body, tables) {
  for (let at = 0; at < body.length; ) {
    const [wide, number] = [body[at] >> 4, body[at] & 15];
    const step = wide ? 2 : 1;
    if (at + 1 + 64 * step > body.length) return;
    const table = new Array(64);
    for (let i = 0, from = at + 1; i < 64; i++, from += step) {
      table[ZIGZAG[i]] = wide ? (body[from] << 8) | body[from + 1] : body[from];
    }
    tables.set(number, table);
    at += 1 + 64 * step;
  }
}

const apart = (one, other) => one.reduce((sum, value, i) => sum + Math.abs(value - other[i]), 0);
