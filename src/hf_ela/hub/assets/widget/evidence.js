/** Where in an image the evidence is: `overlay` of `hf_ela/models/explain.py`, as coloured rectangles. */

/** For fake and for real: distinct with every common kind of colour blindness. */
const RED = "214 40 40";
const BLUE = "29 78 216";
/** Opacity of a colour at a probability of 1 or 0. */
const STRONGEST = 0.6;
/** A part that no view shows keeps 0.45 of its brightness. */
const UNSEEN = "rgb(0 0 0 / 0.55)";

/**
 * Return rectangles that cover the image without overlap, each with the mean of the scores of the
 * views that show it; null where none does.
 * @param {number} width @param {number} height of the image
 * @param {import("./views.js").Box[]} boxes
 * @param {number[]} scores of the boxes
 * @returns {{x: number, y: number, width: number, height: number, score: number | null}[]}
 */
export function cells(width, height, boxes, scores) {
  const xs = edges([0, width, ...boxes.flatMap((box) => [box.x, box.x + box.width])]);
  const ys = edges([0, height, ...boxes.flatMap((box) => [box.y, box.y + box.height])]);
  return ys.slice(1).flatMap((bottom, row) =>
    xs.slice(1).map((right, column) => {
      const [x, y] = [xs[column], ys[row]];
      const shown = scores.filter((_, i) => holds(boxes[i], x, y));
      const score = shown.length ? shown.reduce((a, b) => a + b, 0) / shown.length : null;
      return { x, y, width: right - x, height: bottom - y, score };
    }),
  );
}

/**
 * Return the colour of a score: red from the threshold on, blue below, stronger further from it.
 * @param {number | null} score
 * @param {number} threshold
 */
export function color(score, threshold) {
  if (score === null) return UNSEEN;
  const forFake = (score - threshold) / Math.max(1 - threshold, 1e-9);
  const forReal = (threshold - score) / Math.max(threshold, 1e-9);
  const [name, share] = forFake >= 0 ? [RED, forFake] : [BLUE, forReal];
  return `rgb(${name} / ${STRONGEST * Math.min(share, 1)})`;
}

const edges = (values) => [...new Set(values)].sort((a, b) => a - b);

const holds = (box, x, y) =>
  x >= box.x && x < box.x + box.width && y >= box.y && y < box.y + box.height;
