// Shows an image's metadata, in short and in full.

import { h } from "./dom.js";
import { fieldLabel, valueLabel } from "./words.js";

const FIRST = ["dx", "age", "sex", "localization", "lesion_id"];

/** @param {object} payload @returns {string} such as "45 years, female, back" */
export function brief({ age, sex, localization }) {
  const years = age === undefined || age === null ? "age not recorded" : `${age} years`;
  return [years, sex && valueLabel(sex), localization && valueLabel(localization)]
    .filter(Boolean)
    .join(", ");
}

/** @param {object} payload @returns {string|null} */
export const diagnosis = (payload) => (payload.dx === undefined ? null : valueLabel(payload.dx));

/**
 * @param {object} payload
 * @param {[string, string][]} [before] further lines
 * @returns {HTMLElement}
 */
export function factList(payload, before = []) {
  const rest = Object.keys(payload).filter(
    (name) => !FIRST.includes(name) && !["image_id", "source"].includes(name),
  );
  const names = [...FIRST.filter((name) => name in payload), ...rest];
  const lines = [
    ...before,
    ...names.map((name) => [fieldLabel(name), textOf(name, payload[name])]),
  ];
  return h(
    "dl",
    { class: "facts" },
    lines.map(([term, text]) => h("div", {}, h("dt", {}, term), h("dd", {}, text))),
  );
}

/** Shows an id unchanged: somebody may search for it. */
const textOf = (name, value) => (name.endsWith("_id") && value ? String(value) : valueLabel(value));

/**
 * The preview of a stored image. Its size reserves the space before it loads.
 * @param {{payload: object, preview_url: string}} image
 * @param {Object<string, any>} [attributes]
 * @returns {HTMLImageElement}
 */
export function previewOf({ payload, preview_url: src }, attributes = {}) {
  const { width, height } = payload.source ?? {};
  return h("img", { alt: "", width, height, decoding: "async", ...attributes, src });
}

/** @param {string} id @returns {string} */
export const previewUrl = (id) => `/v1/images/${encodeURIComponent(id)}/preview`;

/** @param {string} id @returns {string} */
export const imageUrl = (id) => `/v1/images/${encodeURIComponent(id)}`;
