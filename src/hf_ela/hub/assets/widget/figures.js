/** The pictures of an answer, with their sliders. */

import { cells, color } from "./evidence.js";

const element = (id) => document.getElementById(id);

/** Empty the pictures for the next answer. */
export function clearFigures() {
  for (const id of ["split", "split-hint", "legend", "ela", "quality-control"]) element(id).hidden = true;
  element("where").textContent = "";
  const { width, height } = element("evidence");
  element("evidence").getContext("2d").clearRect(0, 0, width, height);
}

/** @param {{width: number, height: number, image: ImageBitmap}} opened */
export function showPicture({ width, height, image }) {
  for (const id of ["picture-frame", "ela-frame"]) {
    element(id).style.setProperty("--ratio", width / height);
  }
  draw("picture", image, "Your picture");
  showLevelling(null);
}

/**
 * Show which parts of the picture speak for what.
 * @param {object} found
 * @param {import("./views.js").Box[]} found.boxes
 * @param {number[]} found.scores of the boxes
 * @param {number} found.threshold
 * @param {string} found.doubt @param {boolean} found.whole as for `showScored`
 * @param {number} found.width @param {number} found.height of the picture, not of its canvas
 */
export function showEvidence({ boxes, scores, threshold, doubt, whole, width, height }) {
  const forFake = scores.filter((one) => one >= threshold).length;
  element("where").textContent = doubt
    ? "This picture shows no evidence."
    : whole
      ? "This model sees the whole picture at once: the colour says nothing about regions."
      : `Where the evidence is: ${forFake} of the ${scores.length} regions that the model sees look ` +
        "AI-generated.";
  const parts = doubt ? [] : cells(width, height, boxes, scores);
  element("unseen").hidden = !paintEvidence(parts, threshold, width, height);
  for (const id of ["split", "split-hint", "legend"]) element(id).hidden = doubt !== "";
}

/** @param {number | null} share of the error levels that is done */
export function showLevelling(share) {
  const done = share === null ? "" : ` ${Math.round(share * 100)} %`;
  element("levelling").textContent = `Computing the error levels …${done}`;
  element("levelling").hidden = false;
}

/** @param {{quality: number, image: ImageBitmap}} levels */
export function showLevels({ quality, image }) {
  const text =
    `Its error levels, brightened: what JPEG compression at quality ${quality} changes. ` +
    "This is the familiar ELA picture, not exactly what the network sees.";
  draw("ela", image, "The error levels of your picture, brightened");
  element("ela-text").textContent = text;
  for (const id of ["quality", "quality-shown"]) element(id).value = quality;
  for (const id of ["ela", "quality-control"]) element(id).hidden = false;
  element("levelling").hidden = true;
}

/**
 * Let one slider divide the frame between the picture and the map, and the other ask for error levels.
 * @param {(quality: number) => void} level
 */
export function listenToSliders(level) {
  const [split, quality] = [element("split"), element("quality")];
  const divide = () => {
    element("picture-frame").style.setProperty("--split", split.value / 100);
    split.ariaValueText = `${split.value} % picture, ${100 - split.value} % map`;
  };
  split.addEventListener("input", divide);
  divide();
  quality.addEventListener("input", () => (element("quality-shown").value = quality.value));
  quality.addEventListener("change", () => level(Number(quality.value)));
}

/** Return whether the model did not see some part. */
function paintEvidence(parts, threshold, width, height) {
  const canvas = element("evidence");
  ({ width: canvas.width, height: canvas.height } = element("picture"));
  const context = canvas.getContext("2d");
  const [across, down] = [canvas.width / width, canvas.height / height];
  for (const part of parts) {
    // Whole pixels, or a seam would show between two rectangles.
    const [left, right] = [part.x, part.x + part.width].map((x) => Math.round(x * across));
    const [top, bottom] = [part.y, part.y + part.height].map((y) => Math.round(y * down));
    context.fillStyle = color(part.score, threshold);
    context.fillRect(left, top, right - left, bottom - top);
  }
  canvas.ariaLabel = parts.length
    ? "The evidence, in colour over the picture: red like AI-generated, blue like human-made"
    : "No evidence";
  return parts.some((part) => part.score === null);
}

function draw(id, image, label) {
  const canvas = element(id);
  canvas.width = image.width;
  canvas.height = image.height;
  canvas.getContext("2d").drawImage(image, 0, 0);
  canvas.ariaLabel = label;
  image.close();
}
