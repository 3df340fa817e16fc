// Counts the diagnoses among similar images, and claims no more than that.

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
    const name = valueLabel(payload[field], field);
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return [...counts].sort((a, b) => b[1] - a[1] || a[0].localeCompare(b[0]));
}

/**
 * @param {HTMLElement} container
 * @param {object[]} hits
 * @param {string|null} group
 */
export function drawNeighbours(container, hits, group) {
  container.hidden = !hits.some(({ payload }) => payload.dx !== undefined);
  if (container.hidden) return;
  const diagnoses = tally(hits);
  const what = group ? counted(hits.length, fieldNoun(group)) : counted(hits.length, "image");
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
    container,
    h(
      "section",
      { class: "neighbours", "aria-labelledby": "neighbours-title" },
      h("h3", { id: "neighbours-title" }, `Diagnoses recorded for these ${what}`),
      h("ul", {}, bars),
      h(
        "p",
        { class: "quiet" },
        "A count among similar images, not a diagnosis: similar looks can have other causes.",
      ),
    ),
  );
}
