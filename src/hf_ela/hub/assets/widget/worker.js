/** Does the work in a thread of its own, so that the page never freezes. */

import { doubt } from "./doubt.js";
import { errorLevels } from "./ela.js";
import { Model, ModelError } from "./model.js";
import { Picture, PictureError, pixelsAreTrue } from "./picture.js";

/** Longest side of a picture for the page, in pixels. */
const LONGEST = 1280;

let model = null; // a promise of it, once it was asked for
let newest = 0; // number of the newest picture: work on older ones ends

onmessage = ({ data }) => {
  if (data.place) model = load(data.place);
  if (data.file) score(data.file, (newest = data.number));
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
    const { threshold, uncertain, synthetic } = loaded;
    postMessage({ kind: "ready", threshold, uncertain, synthetic, exact });
    return loaded;
  } catch (error) {
    postMessage({ kind: "unavailable", message: reason(error) });
    return null;
  }
}

/** Answer in three steps: what was opened, the score with its evidence, the error levels. */
async function score(file, number) {
  const isNewest = () => number === newest;
  let picture = null;
  try {
    picture = await Picture.open(file);
    if (!isNewest()) return;
    const { width, height, unlike } = picture;
    const image = picture.thumbnail(LONGEST);
    postMessage({ kind: "opened", number, width, height, unlike, image }, [image]);
    const ready = await model;
    if (!ready || !isNewest()) return;
    const whole = ready.input.kind === "resize";
    const scored = await ready.score(picture);
    postMessage({ kind: "scored", number, ...scored, whole, doubt: await doubt(picture, ready.input) });
    const { quality } = ready;
    const levels = await errorLevels(picture, quality, LONGEST, async (share) => {
      postMessage({ kind: "levelling", number, share });
      await new Promise((resolve) => setTimeout(resolve)); // a newer picture may have come
      return isNewest();
    });
    if (!levels) return;
    const ela = await createImageBitmap(levels);
    postMessage({ kind: "levels", number, quality, image: ela }, [ela]);
  } catch (error) {
    postMessage({ kind: "refused", number, message: reason(error) });
  } finally {
    picture?.close();
  }
}

function reason(error) {
  if (error instanceof PictureError || error instanceof ModelError) return error.message;
  console.error(error);
  if (error instanceof RangeError) return "this browser has not enough memory for it";
  return `something went wrong: ${error?.message ?? error}`;
}
