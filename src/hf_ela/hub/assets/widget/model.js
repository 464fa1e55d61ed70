/** A model of the Hub in this browser: ONNX Runtime, `hf_ela.json` and `model.onnx` of one commit. */

import { enlarged, fitted, pixelSide, viewBoxes, viewPixels } from "./views.js";

const VERSION = "1.30.0";
const PLACE = `https://cdn.jsdelivr.net/npm/onnxruntime-web@${VERSION}/dist/`;
/** The smallest build, WebAssembly only. No other bytes are ever run. */
const RUNTIME = [
  {
    name: "ort.wasm.bundle.min.mjs",
    bytes: 73054,
    integrity: "sha384-PLWz+nHEVHpjwBsO0YVdvQj6n5814Iv8E3b8FG0Rp/uIAtjFMCKOpP66iPzedrIG",
  },
  {
    name: "ort-wasm-simd-threaded.wasm",
    bytes: 14239897,
    integrity: "sha384-vjBJ1z7qrhkTyYsNqKeF6c7N+nOJSU94czEo+tvZcu8G75JparGq9kB+kTnEUNVM",
  },
];
/** The version of `hf_ela.json` that this page reads. */
const SCHEMA = 1;
/** Views per run of the network: memory does not grow with their number. */
const BATCH = 8;
/** The smallest normal float32, to which probabilities are limited. */
const TINY = 2 ** -126;

/** Why there is no model, in words for a person. */
export class ModelError extends Error {}

/**
 * @typedef {object} Place of a model, as `widget.json` has it
 * @property {string} endpoint such as https://huggingface.co
 * @property {string} repo user/name
 * @property {string} revision its commit
 */

/** A model that scores pictures. */
export class Model {
  constructor(ort, session, settings) {
    Object.assign(this, { ort, session });
    this.threshold = settings.threshold;
    this.uncertain = settings.uncertain ?? null;
    this.frequencies = settings.frequencies ?? {};
    this.synthetic = settings.data?.synthetic === true;
    this.temperature = settings.temperature;
    this.input = settings.recipe.input;
    this.quality = Math.min(...(settings.recipe.ela?.qualities ?? [90]));
  }

  /**
   * @param {Place} place
   * @param {(loaded: number, total: number) => void} onBytes
   * @returns {Promise<Model>}
   * @throws {ModelError}
   */
  static async load(place, onBytes) {
    const at = `${place.endpoint}/${place.repo}/resolve/${place.revision}/`;
    const settings = await readSettings(`${at}hf_ela.json`);
    const progress = new Progress(onBytes);
    const [module, binary, network] = await Promise.all([
      ...RUNTIME.map(({ name, bytes, integrity }) =>
        fetchChecked(PLACE + name, integrity, progress.of(bytes)),
      ),
      fetchChecked(`${at}model.onnx`, settings.onnx, progress.of(0)),
    ]);
    const ort = await imported(module);
    // Threads need shared memory, which a browser grants only with the headers that README.md asks for,
    // and not within a page without them, such as that of a Space on the Hub.
    ort.env.wasm.numThreads = threads();
    ort.env.wasm.wasmBinary = binary;
    ort.env.logLevel = "error";
    try {
      const session = await ort.InferenceSession.create(network, { executionProviders: ["wasm"] });
      return new Model(ort, session, settings);
    } catch (error) {
      throw new ModelError(`This browser cannot run the model: ${error.message ?? error}`);
    }
  }

  /**
   * Score a picture.
   * @param {import("./picture.js").Picture} picture
   * @returns {Promise<{score: number, boxes: import("./views.js").Box[], scores: number[]}>}
   *   calibrated probabilities of fake: of the picture, and of each view of it
   */
  async score(picture) {
    const small = await fitted(picture, this.input);
    const parts = viewBoxes(small.width, small.height, this.input);
    const logits = [];
    for (let first = 0; first < parts.length; first += BATCH) {
      logits.push(...(await this.logits(small, parts.slice(first, first + BATCH))));
    }
    const mean = logits.reduce((a, b) => a + b, 0) / logits.length;
    const boxes = parts.map((part) => enlarged(part, small, picture));
    return { score: this.calibrated(mean), boxes, scores: logits.map((x) => this.calibrated(x)) };
  }

  async logits(picture, boxes) {
    const side = pixelSide(this.input);
    const pixels = new Uint8Array(boxes.length * side * side * 3);
    for (const [i, box] of boxes.entries()) {
      pixels.set(await viewPixels(picture, box, this.input), i * side * side * 3);
    }
    const shape = [boxes.length, side, side, 3];
    const answer = await this.session.run({ pixels: new this.ort.Tensor("uint8", pixels, shape) });
    const both = Array.from(answer.probabilities.data, (p) => Math.log(Math.max(p, TINY)));
    const logits = boxes.map((_, i) => both[2 * i] - both[2 * i + 1]);
    if (!logits.every(Number.isFinite)) throw new ModelError("The output of the model is not finite.");
    return logits;
  }

  calibrated(logit) {
    return 1 / (1 + Math.exp(-logit / this.temperature));
  }
}

/**
 * Fetch a file, and refuse other bytes than the expected ones.
 *
 * The digest is checked here: the `integrity` of `fetch` reports no progress, and does not tell a
 * failure of the network from wrong bytes.
 * @param {string} url
 * @param {string} integrity algorithm and digest, written as in HTML
 * @param {(loaded: number, length: number) => void} onBytes
 * @returns {Promise<Uint8Array>}
 * @throws {ModelError}
 */
export async function fetchChecked(url, integrity, onBytes) {
  const name = url.split("/").pop();
  const response = await fetched(url);
  const length = Number(response.headers.get("content-length"));
  const parts = [];
  let loaded = 0;
  try {
    for (let reader = response.body.getReader(), part; !(part = await reader.read()).done; ) {
      parts.push(part.value);
      onBytes((loaded += part.value.length), length);
    }
  } catch {
    throw new ModelError(`The download of ${name} was interrupted. Check the connection and try again.`);
  }
  const bytes = new Uint8Array(await new Blob(parts).arrayBuffer());
  const [algorithm, wanted] = integrity.split(/-(.*)/);
  const digest = await crypto.subtle.digest(algorithm.replace("sha", "SHA-"), bytes);
  if (btoa(String.fromCharCode(...new Uint8Array(digest))) !== wanted) {
    throw new ModelError(
      `${name} is not the file that this page expects, so it was not used. ` +
        "It may be corrupt: try again, and tell the owner of the page if this persists.",
    );
  }
  return bytes;
}

async function fetched(url) {
  const name = url.split("/").pop();
  let response;
  try {
    response = await fetch(url, { credentials: "omit", referrerPolicy: "no-referrer" });
  } catch {
    throw new ModelError(`${name} could not be downloaded. Check the connection and try again.`);
  }
  if (response.ok) return response;
  throw new ModelError(
    `${new URL(url).host} does not provide ${name} (status ${response.status}). ` +
      "The model may have been withdrawn.",
  );
}

async function readSettings(url) {
  const settings = await (await fetched(url)).json().catch(() => ({}));
  const known = settings.schema === SCHEMA && String(settings.labels) === "fake,real";
  const sha256 = settings.sha256?.["model.onnx"];
  if (!known || !/^[0-9a-f]{64}$/.test(sha256)) {
    throw new ModelError("This page cannot read this model: it comes from another version of hf-ela.");
  }
  const digest = sha256.match(/../g).map((pair) => parseInt(pair, 16));
  return { ...settings, onnx: `sha256-${btoa(String.fromCharCode(...digest))}` };
}

/** @returns {number} of threads: no more than half of the processor's, as ONNX Runtime does by itself */
export function threads() {
  return crossOriginIsolated ? Math.min(4, Math.ceil(navigator.hardwareConcurrency / 2)) : 1;
}

/** The address stays valid: threads begin with the same bytes. */
function imported(bytes) {
  return import(URL.createObjectURL(new Blob([bytes], { type: "text/javascript" })));
}

/** Adds up the progress of several downloads. */
class Progress {
  constructor(report) {
    this.report = report;
    this.files = [];
  }

  /** @param {number} bytes of the file, or 0 if only the download tells */
  of(bytes) {
    const file = { loaded: 0, length: bytes };
    this.files.push(file);
    return (loaded, length) => {
      file.loaded = loaded;
      file.length = Math.max(bytes || length, loaded); // a compressed download tells too few
      const sum = (key) => this.files.reduce((total, one) => total + one[key], 0);
      this.report(sum("loaded"), sum("length"));
    };
  }
}
