// Draws filters for numbers, such as an age range. Their fields survive a redraw of the rest:
// somebody may be typing in one.

import { fill, h, onNumber, putNumber } from "./dom.js";
import { fieldLabel } from "./words.js";

/** @typedef {import("./address.js").State} State */

const EMPTY = { least: null, most: null };

/** @type {Map<string, {least: HTMLInputElement, most: HTMLInputElement}>} by payload field */
const drawn = new Map();

/** @type {State} the state that is shown, which an input changes */
let shown;

/**
 * @param {HTMLElement} container
 * @param {State} state
 * @param {Object<string, {min: number|string, max: number|string}>} bounds the collection's bounds
 * @param {(change: object) => void} go
 */
export function drawRanges(container, state, bounds, go) {
  shown = state;
  // Offer no times: nobody in a department searches for an image by the second.
  const numbers = Object.keys(bounds).filter((field) => typeof bounds[field].min === "number");
  const fields = [...new Set([...numbers, ...Object.keys(state.ranges)])];
  if (fields.join() !== [...drawn.keys()].join()) build(container, fields, go);
  for (const [field, { least, most }] of drawn) {
    const range = state.ranges[field] ?? EMPTY;
    putNumber(least, range.least);
    putNumber(most, range.most);
    least.placeholder = bounds[field]?.min ?? "";
    most.placeholder = bounds[field]?.max ?? "";
  }
}

function build(container, fields, go) {
  drawn.clear();
  for (const field of fields) {
    drawn.set(field, {
      least: input(field, "least", "from", go),
      most: input(field, "most", "to", go),
    });
  }
  const label = (word, field) => h("label", {}, h("span", {}, word), field);
  fill(
    container,
    [...drawn].map(([field, { least, most }]) =>
      h(
        "fieldset",
        { class: "facet range" },
        h("legend", {}, fieldLabel(field)),
        h("div", { class: "pair" }, label("from", least), label("to", most)),
      ),
    ),
  );
}

function input(field, side, word, go) {
  const element = h("input", {
    type: "number",
    step: "any",
    "aria-label": `${fieldLabel(field)} ${word}`,
    "aria-describedby": "filters-fault",
  });
  onNumber(element, (value) => {
    const range = { ...(shown.ranges[field] ?? EMPTY), [side]: value };
    go({ ranges: { ...shown.ranges, [field]: range } });
  });
  return element;
}
