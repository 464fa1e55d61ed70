/** The texts of an EXIF block that a claim can be made by. */

import { latin1, viewAt } from "./containers.js";

const NAMES = { 0x010e: "ImageDescription", 0x010f: "Make", 0x0110: "Model", 0x0131: "Software" };
const EXIF_IFD = 0x8769;
const USER_COMMENT = 0x9286;
/** Bytes of a value by its type, of those that are read: BYTE, ASCII, SHORT, LONG, UNDEFINED. */
const SIZES = { 1: 1, 2: 1, 3: 2, 4: 4, 7: 1 };
const UNDEFINED_TYPES = [1, 7];
/** Entries that are read of a directory. */
const MOST_ENTRIES = 1000;
const MOST_TEXT = 2 ** 20;

/**
 * @param {Uint8Array} block with or without the mark of EXIF before it
 * @returns {Record<string, string>} by name; nothing for a corrupt block
 */
export function readExif(block) {
  for (let i = 0; i < 2 && latin1(block.subarray(0, 6)) === "Exif\0\0"; i++) block = block.subarray(6);
  const order = latin1(block.subarray(0, 4));
  if (block.length < 8 || !["II*\0", "MM\0*"].includes(order)) return {};
  const little = order[0] === "I";
  const main = directory(block, viewAt(block).getUint32(4, little), little);
  const texts = {};
  for (const [tag, name] of Object.entries(NAMES)) {
    const entry = main.get(Number(tag));
    if (entry && SIZES[entry.type] === 1) texts[name] = asciiText(entry.value);
  }
  const pointer = main.get(EXIF_IFD);
  if (pointer?.type !== 4 || pointer.value.length !== 4) return texts;
  const comment = directory(block, viewAt(pointer.value).getUint32(0, little), little).get(USER_COMMENT);
  if (comment?.type === 2) texts.UserComment = asciiText(comment.value);
  if (UNDEFINED_TYPES.includes(comment?.type)) texts.UserComment = commentText(comment.value);
  return texts;
}

/** The entries of a directory by tag; one whose value lies elsewhere than in the block is left out. */
function directory(block, at, little) {
  const found = new Map();
  if (at + 2 > block.length) return found;
  const view = viewAt(block);
  const count = Math.min(view.getUint16(at, little), MOST_ENTRIES);
  for (let i = 0; i < count && at + 14 + i * 12 <= block.length; i++) {
    const entry = at + 2 + i * 12;
    const type = view.getUint16(entry + 2, little);
    const length = view.getUint32(entry + 4, little) * (SIZES[type] ?? 0);
    const from = length <= 4 ? entry + 8 : view.getUint32(entry + 8, little);
    if (!length || from + length > block.length) continue;
    found.set(view.getUint16(entry, little), { type, value: block.subarray(from, from + length) });
  }
  return found;
}

const asciiText = (value) => latin1(value.subarray(0, MOST_TEXT)).replace(/\0$/, "");

/** The text of a UserComment, whose first eight bytes should name its characters. */
function commentText(value) {
  const kind = latin1(value.subarray(0, 8));
  const text = value.subarray(8, 8 + MOST_TEXT);
  if (kind === "UNICODE\0") {
    const big = text[0] === 0 || (text[0] === 0xfe && text[1] === 0xff); // the standard leaves it open
    return new TextDecoder(big ? "utf-16be" : "utf-16le").decode(text);
  }
  const known = ["ASCII", "JIS", ""].includes(kind.replace(/\0+$/, ""));
  return new TextDecoder().decode(known ? text : value.subarray(0, MOST_TEXT));
}
