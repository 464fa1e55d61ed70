/** Does the work in a thread of its own, so that the page never freezes. */

import { doubt } from "./doubt.js";
import { errorLevels } from "./ela.js";
import { readMarks } from "./marks.js";
import { Model, ModelError } from "./model.js";
import { Picture, PictureError, pixelsAreTrue } from "./picture.js";

/** Longest side of a picture for the page, in pixels. */
const LONGEST = 1280;

let model = null; // a promise of it, once it was asked for
let newest = 0; // number of the newest picture: work on older ones ends
let wish = 0; // number of the newest wish for error levels

onmessage = ({ data: { place, file, number, quality } }) => {
  if (place) model = load(place);
  else if (quality) read(file, number, (picture) => level(picture, number, quality));
  else read(file, (newest = number), (picture) => score(picture, file, number));
};

/** @param {import("./model.js").Place} place */
async function load(place) {
  let told = 0;
  const progress = (loaded, total) => {
    if (performance.now() - told < 50 && loaded < total) return;
    told = performance.now();
    postMessage({ kind: "loading", loaded, total });
  };
  try {
    const loaded = await Model.load(place, progress);
    const exact = await pixelsAreTrue();
    const { threshold, uncertain, frequencies, synthetic } = loaded;
    postMessage({ kind: "ready", threshold, uncertain, frequencies, synthetic, exact });
    return loaded;
  } catch (error) {
    postMessage({ kind: "unavailable", message: reason(error) });
    return null;
  }
}

/** Open a picture for some work, and tell what fails. */
async function read(file, number, work) {
  let picture = null;
  try {
    picture = await Picture.open(file);
    if (number === newest) await work(picture);
  } catch (error) {
    postMessage({ kind: "refused", number, message: reason(error) });
  } finally {
    picture?.close();
  }
}

/** Answer in three steps: what was opened, the score with its evidence, the error levels. */
async function score(picture, file, number) {
  const { width, height, unlike, facts } = picture;
  const marks = await readMarks(new Uint8Array(await file.arrayBuffer()), facts.format);
  const image = picture.thumbnail(LONGEST);
  postMessage({ kind: "opened", number, width, height, unlike, facts, marks, image }, [image]);
  const ready = await model;
  if (!ready || number !== newest) return;
  const whole = ready.input.kind === "resize";
  const scored = await ready.score(picture);
  postMessage({ kind: "scored", number, ...scored, whole, doubt: await doubt(picture, ready.input) });
  await level(picture, number, ready.quality);
}

/** Compute the error levels, unless a newer picture or another quality is asked for. */
async function level(picture, number, quality) {
  const mine = ++wish;
  const levels = await errorLevels(picture, quality, LONGEST, async (share) => {
    postMessage({ kind: "levelling", number, share });
    await new Promise((resolve) => setTimeout(resolve)); // something newer may have come
    return number === newest && mine === wish;
  });
  if (!levels) return;
  const image = await createImageBitmap(levels);
  postMessage({ kind: "levels", number, quality, image }, [image]);
}

function reason(error) {
  if (error instanceof PictureError || error instanceof ModelError) return error.message;
  console.error(error);
  if (error instanceof RangeError) return "this browser has not enough memory for it";
  return `something went wrong: ${error?.message ?? error}`;
}
