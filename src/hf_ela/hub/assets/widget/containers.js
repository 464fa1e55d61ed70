/** The parts of image files: chunks of PNG and WebP, segments of JPEG, boxes of AVIF. */

/**
 * A part of a file.
 * @typedef {{kind: string, body: Uint8Array}} Part
 */

/** @param {Uint8Array} bytes @param {number} at @returns {DataView} of what follows */
export const viewAt = (bytes, at = 0) =>
  new DataView(bytes.buffer, bytes.byteOffset + at, bytes.byteLength - at);

/** One character a byte. */
export function latin1(bytes) {
  let text = "";
  for (let at = 0; at < bytes.length; at += 8192) {
    text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  }
  return text;
}

/** Join the bodies of some parts. */
export function joined(bodies) {
  const all = new Uint8Array(bodies.reduce((length, body) => length + body.length, 0));
  let at = 0;
  for (const body of bodies) {
    all.set(body, at);
    at += body.length;
  }
  return all;
}

/** The chunks of a PNG up to its end, as `png_chunks` of `hf_ela/images/png.py`. */
export function* pngChunks(bytes) {
  const view = viewAt(bytes);
  for (let at = 8, kind = ""; at + 12 <= bytes.length && kind !== "IEND"; ) {
    const end = at + 12 + view.getUint32(at);
    kind = latin1(bytes.subarray(at + 4, at + 8));
    if (end > bytes.length || !/^[a-z]{4}$/i.test(kind)) return;
    yield { kind, body: bytes.subarray(at + 8, end - 4) };
    at = end;
  }
}

/** The chunks of a WebP (RFC 9649). */
export function* riffChunks(bytes) {
  const view = viewAt(bytes);
  for (let at = 12; at + 8 <= bytes.length; ) {
    const end = at + 8 + view.getUint32(at + 4, true);
    yield { kind: latin1(bytes.subarray(at, at + 4)), body: bytes.subarray(at + 8, end) };
    at = end + (end % 2);
  }
}

/** The boxes of an AVIF (ISO/IEC 14496-12). */
export function* boxes(bytes) {
  const view = viewAt(bytes);
  for (let at = 0; at + 8 <= bytes.length; ) {
    let size = view.getUint32(at) || bytes.length - at;
    if (size === 1 && at + 16 <= bytes.length) size = Number(view.getBigUint64(at + 8));
    yield { kind: latin1(bytes.subarray(at + 4, at + 8)), body: bytes.subarray(at + 8, at + size) };
    at += Math.max(size, 8);
  }
}

/** The segments of a JPEG up to its first scan, past bytes that are none (T.81, B.1). */
export function* jpegSegments(bytes) {
  const view = viewAt(bytes);
  for (let at = 2; at + 4 <= bytes.length; ) {
    const marker = bytes[at + 1];
    if (bytes[at] !== 0xff || marker === 0 || marker === 0xff) {
      at += 1;
      continue;
    }
    if (marker === 0xda || marker === 0xd9) return;
    const alone = marker === 0x01 || (marker >= 0xd0 && marker <= 0xd8);
    const end = at + 2 + (alone ? 0 : view.getUint16(at + 2));
    yield { marker, body: bytes.subarray(at + 4, end) };
    at = end;
  }
}
