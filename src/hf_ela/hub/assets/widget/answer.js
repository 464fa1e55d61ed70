/** The answer as the page shows it, from the messages of the worker. */

import { cells, color } from "./evidence.js";

const element = (id) => document.getElementById(id);
const WORDS = { fake: "AI-generated", real: "human-made" };

/** Empty the answer for the next picture. */
export function clearAnswer() {
  for (const id of ["answer", "result", "truth", "controls", "legend", "ela"]) element(id).hidden = true;
  element("where").textContent = "";
  const { width, height } = element("evidence");
  element("evidence").getContext("2d").clearRect(0, 0, width, height);
}

/**
 * @param {{name: string, width: number, height: number, unlike: string | undefined,
 *   image: ImageBitmap}} opened
 */
export function showOpened({ name, width, height, unlike, image }) {
  for (const id of ["picture-frame", "ela-frame"]) {
    element(id).style.setProperty("--shape", `${width} / ${height}`);
  }
  element("name").textContent = `${name}, ${width} × ${height} pixels`;
  element("unlike").hidden = !unlike;
  element("file-kind").textContent = unlike ?? "";
  draw("picture", image, "Your picture");
  showLevelling(null);
  element("answer").hidden = false;
}

/**
 * @param {object} scored
 * @param {number} scored.score
 * @param {number} scored.threshold
 * @param {[number, number] | null} scored.uncertain lowest and highest score that is uncertain
 * @param {import("./views.js").Box[]} scored.boxes
 * @param {number[]} scored.scores of the boxes
 * @param {string} scored.doubt why the picture itself allows no certain verdict, or an empty text
 * @param {boolean} scored.whole whether the model sees the whole picture at once
 * @param {number} scored.width @param {number} scored.height of the picture, not of its canvas
 * @param {import("./app.js").Sample} [scored.sample] with the true label of the picture
 * @returns {string} the answer in a sentence
 */
export function showScored(scored) {
  const { score, threshold, uncertain, doubt, boxes, scores, whole, width, height, sample } = scored;
  const label = score >= threshold ? "fake" : "real";
  const within = uncertain !== null && score >= uncertain[0] && score <= uncertain[1];
  const abstains = within || doubt !== "";
  const verdict = abstains
    ? `The model is uncertain; it leans towards ${WORDS[label]}${doubt && ` (${doubt})`}`
    : `The model says: ${WORDS[label]}`;
  element("verdict").textContent = verdict;
  if (sample) {
    const right = label === sample.label ? "right" : "wrong";
    const outcome = abstains ? `leans the ${right} way` : `is ${right}`;
    element("truth").textContent = `Truth: ${WORDS[sample.label]}. The model ${outcome}.`;
    element("truth").hidden = false;
  }
  showScale(score, threshold);
  showUncertain(uncertain);
  const forFake = scores.filter((one) => one >= threshold).length;
  element("where").textContent = doubt
    ? "This picture shows no evidence."
    : whole
      ? "This model sees the whole picture at once: the colour says nothing about regions."
      : `Where the evidence is: ${forFake} of the ${scores.length} regions that the model sees look ` +
        "AI-generated.";
  const parts = doubt ? [] : cells(width, height, boxes, scores);
  const unseen = paintEvidence(parts, threshold, width, height);
  element("unseen").hidden = !unseen;
  element("result").hidden = false;
  for (const id of ["controls", "legend"]) element(id).hidden = doubt !== "";
  return `${verdict}, with P(fake) ${score.toFixed(3)}.`;
}

/** @param {number | null} share of the error levels that is done */
export function showLevelling(share) {
  const done = share === null ? "" : ` ${Math.round(share * 100)} %`;
  element("levelling").textContent = `Computing the error levels …${done}`;
  element("levelling").hidden = false;
  element("ela-text").textContent = "Its error levels.";
}

/** @param {{quality: number, image: ImageBitmap}} levels */
export function showLevels({ quality, image }) {
  const text =
    `Its error levels, brightened: what JPEG compression at quality ${quality} changes. ` +
    "This is the familiar ELA picture, not exactly what the network sees.";
  draw("ela", image, "The error levels of your picture, brightened");
  element("ela-text").textContent = text;
  element("ela").hidden = false;
  element("levelling").hidden = true;
}

/** Let the controls set the opacity of the evidence. */
export function listenToControls() {
  const [show, strength] = [element("show"), element("strength")];
  const update = () => {
    strength.disabled = !show.checked;
    const opacity = show.checked ? strength.value / 100 : 0;
    element("evidence").style.setProperty("--strength", opacity);
  };
  show.addEventListener("change", update);
  strength.addEventListener("input", update);
}

function showScale(score, threshold) {
  const scale = element("scale");
  const [mark, line] = [scale.querySelector(".mark"), scale.querySelector(".threshold")];
  for (const at of [scale.querySelector(".flag"), mark]) at.style.setProperty("--at", score);
  const note = element("threshold-note");
  for (const at of [note, line]) at.style.setProperty("--at", threshold);
  element("score").textContent = score.toFixed(3);
  element("score").dataset.value = score;
  note.textContent = `threshold ${threshold.toFixed(3)}`;
  element("threshold").textContent = threshold.toFixed(3);
  scale.ariaLabel =
    `P(fake) is ${score.toFixed(3)} on a scale from 0, human-made, to 1, AI-generated; ` +
    `the threshold is ${threshold.toFixed(3)}`;
}

/** Show the range of uncertain scores, if the model has one. */
function showUncertain(uncertain) {
  for (const id of ["band", "uncertain"]) element(id).hidden = uncertain === null;
  if (uncertain === null) return;
  const [low, high] = uncertain;
  element("band").style.setProperty("--from", low);
  element("band").style.setProperty("--to", high);
  element("low").textContent = low.toFixed(3);
  element("high").textContent = high.toFixed(3);
  element("scale").ariaLabel += `; from ${low.toFixed(3)} to ${high.toFixed(3)} it is uncertain`;
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
