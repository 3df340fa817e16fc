// Draws filters from the facets. Each value is off, "only" or "not", and shows its count of images.

import { fill, h } from "./dom.js";
import { filterOf } from "./search.js";
import { callJson } from "./server.js";
import { fieldLabel, valueLabel } from "./words.js";

/** The number of values that a field shows at first. */
const SHORT = 7;

/** The fields that show all their values. */
const unfolded = new Set();

/**
 * @typedef {object} Facets
 * @property {number} count
 * @property {Object<string, {value: any, count: number}[]>} facets
 * @property {Object<string, {min: number, max: number}>} ranges
 */

/** @param {object} [filter] @param {AbortSignal} [signal] @returns {Promise<Facets>} */
export function fetchFacets(filter, signal) {
  const query = filter ? `?${new URLSearchParams({ filter: JSON.stringify(filter) })}` : "";
  return callJson(`/v1/facets${query}`, { signal });
}

/**
 * How many images each value would give: every field counts under the filters of other fields.
 * @param {import("./address.js").State} state
 * @param {AbortSignal} signal
 * @returns {Promise<{count: number, counts: Object<string, Map<any, number>>}>}
 */
export async function fetchCounts(state, signal) {
  const chosen = Object.keys(state.choices).filter((field) => isChosen(state.choices[field]));
  const [all, ...others] = await Promise.all([
    fetchFacets(filterOf(state), signal),
    ...chosen.map((field) => {
      const { [field]: _, ...choices } = state.choices;
      return fetchFacets(filterOf({ ...state, choices }), signal);
    }),
  ]);
  const counts = {};
  const read = (field, values) => {
    counts[field] = new Map((values ?? []).map(({ value, count }) => [value, count]));
  };
  for (const [field, values] of Object.entries(all.facets)) read(field, values);
  chosen.forEach((field, number) => read(field, others[number].facets[field]));
  return { count: all.count, counts };
}

/** @param {import("./address.js").State} state @returns {number} how many conditions are set */
export function activeFilters({ choices, ranges }) {
  const values = Object.values(choices).map(({ only, not }) => only.length + not.length);
  const spans = Object.values(ranges).filter(({ least, most }) => least !== null || most !== null);
  return values.reduce((sum, n) => sum + n, spans.length);
}

/**
 * @param {HTMLElement} container
 * @param {import("./address.js").State} state
 * @param {Facets["facets"]} known facets of the whole collection, which keep their order
 * @param {Object<string, Map<any, number>>|null} counts null until they are loaded
 * @param {(change: object) => void} go
 */
export function drawFilters(container, state, known, counts, go) {
  // Also show fields that the address filters by but the collection lacks, so that users can clear
  // them.
  const fields = new Set([...Object.keys(known), ...Object.keys(state.choices)]);
  fill(
    container,
    [...fields].map((field) => {
      const choice = state.choices[field] ?? { only: [], not: [] };
      const values = valuesOf(known[field] ?? [], choice);
      if (!values.length) return null;
      const set = (next) => go({ choices: { ...state.choices, [field]: next } });
      const again = () => drawFilters(container, state, known, counts, go);
      return drawField(field, values, choice, counts?.[field], set, again);
    }),
  );
}

/** Adds chosen values to the known ones, even if no image has them. */
function valuesOf(known, { only, not }) {
  const missing = [...only, ...not].filter((value) => !known.some((one) => one.value === value));
  return [...known, ...missing.map((value) => ({ value, count: 0 }))];
}

function drawField(field, values, choice, counts, set, again) {
  const isActive = ({ value }) => choice.only.includes(value) || choice.not.includes(value);
  const whole = unfolded.has(field) || values.length <= SHORT + 1;
  const shown = values.filter((one, number) => whole || number < SHORT || isActive(one));
  const hidden = values.length - shown.length;
  const unfold = () => {
    unfolded.add(field);
    again();
  };
  return h(
    "fieldset",
    { class: "facet" },
    h("legend", {}, fieldLabel(field)),
    shown.map(({ value, count }) =>
      drawValue(field, value, counts ? (counts.get(value) ?? 0) : count, choice, set),
    ),
    hidden > 0 &&
      h(
        "button",
        { type: "button", class: "link", onclick: unfold, dataset: { key: `${field} more` } },
        `${hidden} more values`,
      ),
  );
}

function drawValue(field, value, count, choice, set) {
  const label = valueLabel(value, field);
  const button = (kind, word) => {
    const on = choice[kind].includes(value);
    return h(
      "button",
      {
        type: "button",
        class: `choice ${kind}`,
        "aria-pressed": String(on),
        "aria-label": `${fieldLabel(field)}: ${word} ${label}`,
        dataset: { key: `${kind} ${field} ${value}` },
        onclick: () => set(switched(choice, kind, value, !on)),
      },
      word,
    );
  };
  return h(
    "div",
    { class: count ? "value" : "value none" },
    h("span", { class: "value-name" }, label),
    h("span", { class: "count" }, count.toLocaleString("en")),
    button("only", "only"),
    button("not", "not"),
  );
}

/** A value is required, excluded or neither, never both. */
function switched(choice, kind, value, on) {
  const without = (values) => values.filter((one) => one !== value);
  const next = { only: without(choice.only), not: without(choice.not) };
  if (on) next[kind].push(value);
  return next;
}

const isChosen = ({ only, not }) => only.length + not.length > 0;
