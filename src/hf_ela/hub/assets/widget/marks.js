/**
 * What lies in a file beside its pixels and may say how it was made: texts, EXIF, XMP, C2PA.
 *
 * Read from the bytes alone; nothing is run or fetched. `claims.js` says what it means.
 */

import { boxes, joined, jpegSegments, latin1, pngChunks, riffChunks } from "./containers.js";
import { readExif } from "./exif.js";

/** Keys of PNG texts that a claim can be made by; no other is inflated. */
const KEYS = ["parameters", "prompt", "workflow", "Dream", "sd-metadata", "invokeai_metadata"];
KEYS.push("Description", "Software", "AIGC");
const XMP_KEY = "XML:com.adobe.xmp";
const EXIF_KEY = "Raw profile type exif";
/** Bytes that are read of a text or of XMP, compressed or not. */
const MOST_TEXT = 2 ** 20;

const XMP_MARK = "http://ns.adobe.com/xap/1.0/\0";
/** Bits of the header of an extended WebP. */
const [HAS_EXIF, HAS_XMP] = [8, 4];
/** Identifier of the box of an AVIF that holds a manifest. */
const BOX = "d8fec3d61b0e483c92975828877ec481";
const SOURCE_TYPE = /http:\/\/cv\.iptc\.org\/newscodes\/digitalsourcetype\/\w+/g;

/**
 * @typedef {object} Marks
 * @property {Record<string, string>} texts of a PNG, by key
 * @property {Record<string, string>} exif texts, by name
 * @property {string} xmp the packet, or an empty text
 * @property {{where: string, sources: string[]} | null} manifest where one of C2PA is, and the
 *   addresses of digital source types in it; its signature is not verified
 */

/**
 * @param {Uint8Array} bytes of a file
 * @param {string} format as `readHeader` names it
 * @returns {Promise<Marks>}
 */
export async function readMarks(bytes, format) {
  const read = { PNG: ofPng, JPEG: ofJpeg, WEBP: ofWebp, AVIF: ofAvif }[format];
  const found = { texts: {}, exif: new Uint8Array(), xmp: new Uint8Array(), where: "", manifest: [] };
  Object.assign(found, await read?.(bytes));
  const { texts, exif, xmp } = found;
  const manifest = manifestOf(found.where, found.manifest);
  return { texts, exif: readExif(exif), xmp: packetOf(xmp), manifest };
}

async function ofPng(bytes) {
  const [texts, manifest] = [{}, []];
  let [exif, xmp] = [undefined, undefined];
  for (const { kind, body } of pngChunks(bytes)) {
    if (kind === "caBX") manifest.push(body);
    if (kind === "eXIf") exif = body;
    const end = body.indexOf(0);
    if (!["tEXt", "zTXt", "iTXt"].includes(kind) || end < 0) continue;
    const key = latin1(body.subarray(0, Math.min(end, 80)));
    if (key === XMP_KEY && kind === "iTXt") xmp = await textOf(kind, body.subarray(end + 1));
    if (!KEYS.includes(key) && key !== EXIF_KEY) continue;
    texts[key] ??= new TextDecoder().decode(await textOf(kind, body.subarray(end + 1)));
  }
  exif ??= fromHex(texts[EXIF_KEY] ?? "");
  delete texts[EXIF_KEY];
  return { texts, exif, ...(xmp && { xmp }), where: "PNG caBX", manifest };
}

/** The text of a chunk, after its key. */
async function textOf(kind, value) {
  if (kind === "tEXt") return value.subarray(0, MOST_TEXT);
  if (kind === "zTXt") return inflated(value.subarray(1));
  let from = 2; // past the flag and the method of compression, the language and the translated key
  for (let i = 0; i < 2; i++) from = value.indexOf(0, from) + 1 || value.length;
  const text = value.subarray(from);
  return value[0] === 1 ? inflated(text) : text.subarray(0, MOST_TEXT);
}

/** The first bytes of what was compressed, as far as it is sound. */
async function inflated(compressed) {
  const stream = new Blob([compressed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const [parts, reader] = [[], stream.getReader()];
  let length = 0;
  try {
    for (let part; length < MOST_TEXT && !(part = await reader.read()).done; ) {
      parts.push(part.value);
      length += part.value.length;
    }
    await reader.cancel();
  } catch {
    return new Uint8Array();
  }
  return joined(parts).subarray(0, MOST_TEXT);
}

/** ImageMagick's way to write EXIF: three lines, then hexadecimal digits. */
function fromHex(text) {
  const digits = text.split("\n").slice(3).join("").replace(/\s/g, "");
  return Uint8Array.from(digits.match(/[0-9a-f]{2}/gi) ?? [], (pair) => parseInt(pair, 16));
}

function ofJpeg(bytes) {
  const [exif, manifest] = [[], []];
  let xmp = new Uint8Array();
  for (const { marker, body } of jpegSegments(bytes)) {
    if (marker === 0xeb) manifest.push(body);
    if (marker !== 0xe1) continue;
    if (latin1(body.subarray(0, 6)) === "Exif\0\0") exif.push(exif.length ? body.subarray(6) : body);
    if (latin1(body.subarray(0, XMP_MARK.length)) === XMP_MARK) xmp = body.subarray(XMP_MARK.length);
  }
  return { exif: joined(exif), xmp, where: "JPEG APP11", manifest };
}

function ofWebp(bytes) {
  const [first, manifest] = [{}, []];
  for (const { kind, body } of riffChunks(bytes)) {
    if (kind === "C2PA") manifest.push(body);
    first[kind] ??= body;
  }
  const has = (bit) => first.VP8X?.[0] & bit;
  const found = { where: "WebP C2PA", manifest };
  if (has(HAS_EXIF) && first.EXIF) found.exif = first.EXIF;
  if (has(HAS_XMP) && first["XMP "]) found.xmp = first["XMP "];
  return found;
}

function ofAvif(bytes) {
  const uuids = [...boxes(bytes)].filter(({ kind }) => kind === "uuid").map(({ body }) => body);
  const hex = (body) => Array.from(body.subarray(0, 16), (b) => b.toString(16).padStart(2, "0")).join("");
  const manifest = uuids.filter((body) => hex(body) === BOX).map((body) => body.subarray(16));
  return { where: "AVIF uuid", manifest };
}

/** The text of XMP, or none where it is long or no text. */
function packetOf(bytes) {
  if (bytes.length > MOST_TEXT) return "";
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes).replace(/^[\0 \n]+|[\0 \n]+$/g, "");
  } catch {
    return "";
  }
}

function manifestOf(where, bodies) {
  const text = latin1(joined(bodies));
  if (!text.includes("c2pa")) return null;
  return { where, sources: [...new Set(text.match(SOURCE_TYPE))] };
}
