/** How often held-out pictures with such a score were AI-generated: `Calibrated.frequency` in Python. */

const SOURCES = {
  known: "from sources it was trained on",
  unseen: "from sources it had never seen",
};

/**
 * @param {Object<string, {up_to: number, fake: number, n: number}[]>} frequencies of `hf_ela.json`
 * @param {number} score
 * @returns {string} a sentence, or an empty text where nothing is known
 */
export function frequency(frequencies, score) {
  const found = Object.entries(frequencies).flatMap(([sources, rows]) => {
    const row = rows.find(({ up_to }) => score <= up_to);
    return row ? [[SOURCES[sources], `about ${rounded(100 * row.fake)}`]] : [];
  });
  if (!found.length) return "";
  const [[sources, count], ...others] = found;
  const more = others.map(([where, number]) => `; ${where}, ${number}`).join("");
  return (
    `Of 100 pictures with such a score ${sources}, ${count} were AI-generated${more}. ` +
    "Measured on held-out pictures, weighted as if half of all were AI-generated."
  );
}

/** Round as Python does, a half to the even number. */
function rounded(value) {
  const below = Math.floor(value);
  const half = value - below === 0.5;
  return half ? below + (below % 2) : Math.round(value);
}
