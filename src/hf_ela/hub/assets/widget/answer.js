/** The answer as the page shows it; what it is told comes from the worker. */

import { cells, color } from "./evidence.js";

const element = (id) => document.getElementById(id);

/** Empty the answer for the next picture. */
export function clearAnswer() {
  for (const id of ["answer", "judgement", "controls", "legend", "ela"]) element(id).hidden = true;
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
 * @param {object} judged
 * @param {number} judged.score
 * @param {number} judged.threshold
 * @param {[number, number] | null} judged.uncertain scores from and to which the model does not know
 * @param {import("./views.js").Box[]} judged.boxes
 * @param {number[]} judged.scores of the boxes
 * @param {boolean} judged.whole whether the model looks at the whole picture at once
 * @param {number} judged.width @param {number} judged.height of the picture, not of its canvas
 * @returns {string} the answer in a sentence
 */
export function showJudged({ score, threshold, uncertain, boxes, scores, whole, width, height }) {
  const says = score >= threshold ? "AI-generated" : "human-made";
  const unknown = uncertain !== null && score >= uncertain[0] && score <= uncertain[1];
  const verdict = unknown
    ? `The model does not know; it leans to ${says}`
    : `To the model this looks ${says}`;
  element("verdict").textContent = verdict;
  showScale(score, threshold);
  showUncertain(uncertain);
  const forFake = scores.filter((one) => one >= threshold).length;
  element("where").textContent = whole
    ? "This model looks at the whole picture at once: the colour says nothing about places."
    : "Where the evidence sits: of the places it looked at, " +
      `${forFake} of ${scores.length} say AI-generated.`;
  const unseen = paintEvidence(cells(width, height, boxes, scores), threshold, width, height);
  element("unseen").hidden = !unseen;
  for (const id of ["judgement", "controls", "legend"]) element(id).hidden = false;
  return `${verdict}, with an estimate of ${score.toFixed(3)}.`;
}

/** @param {number | null} share of the error levels that is done */
export function showLevelling(share) {
  const done = share === null ? "" : ` ${Math.round(share * 100)} %`;
  element("levelling").textContent = `Working out the error levels …${done}`;
  element("levelling").hidden = false;
  element("ela-text").textContent = "Its error levels.";
}

/** @param {{quality: number, image: ImageBitmap}} levels */
export function showLevels({ quality, image }) {
  const text =
    `Its error levels, brightened: what JPEG compression at quality ${quality} changes in it. ` +
    "It is the picture people know, and not quite what the network sees.";
  draw("ela", image, "The error levels of your picture, brightened");
  element("ela-text").textContent = text;
  element("ela").hidden = false;
  element("levelling").hidden = true;
}

/** Let the controls rule the opacity of the evidence. */
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
  const [mark, limit] = [scale.querySelector(".mark"), scale.querySelector(".limit")];
  for (const at of [scale.querySelector(".flag"), mark]) at.style.setProperty("--at", score);
  for (const at of [element("limit"), limit]) at.style.setProperty("--at", threshold);
  element("score").textContent = score.toFixed(3);
  element("score").dataset.value = score;
  element("limit").textContent = `called AI-generated from ${threshold.toFixed(3)} on`;
  element("threshold").textContent = threshold.toFixed(3);
  scale.ariaLabel =
    `P(fake) is ${score.toFixed(3)} on a scale from 0, human-made, to 1, AI-generated; ` +
    `the threshold is ${threshold.toFixed(3)}`;
}

/** Show from where to where the model does not know, if it ever does not. */
function showUncertain(uncertain) {
  for (const id of ["band", "uncertain"]) element(id).hidden = uncertain === null;
  if (uncertain === null) return;
  const [low, high] = uncertain;
  element("band").style.setProperty("--from", low);
  element("band").style.setProperty("--to", high);
  element("low").textContent = low.toFixed(3);
  element("high").textContent = high.toFixed(3);
  element("scale").ariaLabel += `; from ${low.toFixed(3)} to ${high.toFixed(3)} it does not know`;
}

/** Return whether something was not looked at. */
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
  canvas.ariaLabel =
    "The evidence, in colour over the picture: red like AI-generated, blue like human-made";
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
