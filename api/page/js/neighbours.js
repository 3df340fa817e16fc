// What the neighbours say: a count among similar pictures, and no more than that.

import { fill, h } from "./dom.js";
import { counted, fieldNoun, valueLabel } from "./words.js";

/**
 * @param {object[]} hits
 * @param {string} [field]
 * @returns {[string, number][]} the most frequent first
 */
export function tally(hits, field = "dx") {
  const counts = new Map();
  for (const { payload } of hits) {
    const name = valueLabel(payload[field]);
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return [...counts].sort((a, b) => b[1] - a[1] || a[0].localeCompare(b[0]));
}

/**
 * @param {HTMLElement} place
 * @param {object[]} hits
 * @param {string|null} group
 */
export function drawNeighbours(place, hits, group) {
  place.hidden = !hits.some(({ payload }) => payload.dx !== undefined);
  if (place.hidden) return;
  const diagnoses = tally(hits);
  const what = group ? counted(hits.length, fieldNoun(group)) : counted(hits.length, "picture");
  const bars = diagnoses.map(([name, count]) => {
    const bar = h("span", { class: "bar" });
    bar.style.width = `${(100 * count) / hits.length}%`;
    return h(
      "li",
      {},
      h("span", { class: "name" }, name),
      h("span", { class: "count" }, String(count)),
      h("span", { class: "track", "aria-hidden": "true" }, bar),
    );
  });
  fill(
    place,
    h(
      "section",
      { class: "neighbours", "aria-labelledby": "neighbours-title" },
      h("h3", { id: "neighbours-title" }, `Diagnoses recorded for these ${what}`),
      h("ul", {}, bars),
      h(
        "p",
        { class: "quiet" },
        "A count among similar pictures, not a diagnosis: similar looks can have other causes.",
      ),
    ),
  );
}
