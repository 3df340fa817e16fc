// The panel beside the results: the query, its options and filters, and their faults.

import { activeFilters, drawFilters } from "./filters.js";
import { byId, showFault } from "./dom.js";
import { showConcept } from "./concept.js";
import { drawQuery } from "./query-panel.js";
import { drawRanges } from "./ranges.js";
import { showOptions } from "./options.js";
import { counted } from "./words.js";

const FAULT_PLACES = ["limit", "threshold", "closeness", "crop", "options", "filters", "id", "picture"];

/**
 * @param {object} all
 * @param {import("./address.js").State} all.state
 * @param {{file: File, url: string}|null} all.picture
 * @param {object|null} all.known the collection and its facets; null until they are loaded
 * @param {Object<string, Map<any, number>>|null} all.counts counts of the facets' values, likewise
 * @param {import("./words.js").Fault[]} all.faults
 * @param {(change: object) => void} go
 */
export function drawPanel({ state, picture, known, counts, faults }, go) {
  drawQuery(state, picture, go);
  showOptions(state, known);
  showConcept(state, known);
  byId("text-form").hidden = !known?.searches_text;
  const active = activeFilters(state);
  byId("clear-filters").hidden = active === 0;
  byId("active-filters").hidden = active === 0;
  byId("active-filters").textContent = counted(active, "filter");
  drawFilters(byId("filters"), state, known?.facets ?? {}, counts, go);
  drawRanges(byId("ranges"), state, known?.ranges ?? {}, go);
  drawFaults(faults);
}

/** Shows each fault at its place. @param {import("./words.js").Fault[]} faults */
export function drawFaults(faults) {
  for (const place of FAULT_PLACES) {
    const here = faults.filter((fault) => fault.place === place);
    showFault(place, here.map(({ text }) => text).join(" "));
  }
}
