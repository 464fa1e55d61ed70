/** The answer as the page shows it, from the messages of the worker. */

import { readClaims, wordsOf } from "./claims.js";
import { clearFigures, showEvidence, showPicture } from "./figures.js";
import { frequency } from "./frequency.js";

const element = (id) => document.getElementById(id);
const WORDS = { fake: "AI-generated", real: "human-made" };

/** Empty the answer for the next picture. */
export function clearAnswer() {
  for (const id of ["answer", "result", "details", "truth"]) element(id).hidden = true;
  document.body.classList.remove("answered");
  clearFigures();
}

/**
 * @param {object} opened
 * @param {string} opened.name
 * @param {number} opened.width @param {number} opened.height
 * @param {string | undefined} opened.unlike
 * @param {import("./facts.js").Facts} opened.facts
 * @param {import("./marks.js").Marks} opened.marks
 * @param {ImageBitmap} opened.image
 */
export function showOpened({ name, width, height, unlike, facts, marks, image }) {
  element("name").textContent = name;
  element("unlike").hidden = !unlike;
  element("file-kind").textContent = unlike ?? "";
  showFacts(facts);
  showClaims(readClaims(marks));
  showPicture({ width, height, image });
  element("answer").hidden = false;
  document.body.classList.add("answered");
}

/** @param {import("./facts.js").Facts} facts */
function showFacts({ format, width, height, size_bytes, jpeg_quality, jpeg_quality_exact }) {
  const shown = {
    Format: format,
    Size: `${width} × ${height} pixels`,
    Bytes: size_bytes.toLocaleString("en"),
  };
  if (jpeg_quality) shown["JPEG quality"] = `${jpeg_quality_exact ? "" : "about "}${jpeg_quality}`;
  const parts = Object.entries(shown).flatMap(([name, value]) => [made("dt", name), made("dd", value)]);
  element("facts").replaceChildren(...parts);
}

/** @param {import("./claims.js").Claim[]} claims */
function showClaims(claims) {
  const sentences = claims.map(
    (claim) => `The file itself says: ${wordsOf(claim)} (${claim.what}; ${claim.where}).`,
  );
  element("claim-list").replaceChildren(...sentences.map((sentence) => made("li", sentence)));
  element("claims").hidden = claims.length === 0;
  element("no-claim").hidden = claims.length > 0;
}

function made(tag, text) {
  const one = document.createElement(tag);
  one.textContent = text;
  return one;
}

/**
 * @param {object} scored
 * @param {number} scored.score
 * @param {number} scored.threshold
 * @param {[number, number] | null} scored.uncertain lowest and highest score that is uncertain
 * @param {object} scored.frequencies see frequency.js
 * @param {import("./views.js").Box[]} scored.boxes
 * @param {number[]} scored.scores of the boxes
 * @param {string} scored.doubt why the picture itself allows no certain verdict, or an empty text
 * @param {boolean} scored.whole whether the model sees the whole picture at once
 * @param {number} scored.width @param {number} scored.height of the picture, not of its canvas
 * @param {import("./app.js").Sample} [scored.sample] with the true label of the picture
 * @returns {string} the answer in a sentence
 */
export function showScored(scored) {
  const { score, threshold, uncertain, frequencies, doubt, sample } = scored;
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
  element("frequency").textContent = doubt ? "" : frequency(frequencies, score);
  showEvidence(scored);
  for (const id of ["result", "details"]) element(id).hidden = false;
  return `${verdict}, with P(fake) ${score.toFixed(3)}.`;
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

