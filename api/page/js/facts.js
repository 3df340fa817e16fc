// Shows an image's metadata, in short and in full.

import { h } from "./dom.js";
import { here } from "./here.js";
import { fieldLabel, valueLabel } from "./words.js";

const FIRST = ["Diagnosis", "Confirmed by", "Age", "Sex", "Site", "Lesion"];

/**
 * What an image of DICOM is called, whose id is a key. @param {object} payload
 * @returns {string|null} such as "MR, frame 3 of 10"; null for any other image
 */
export function scanName(payload) {
  if (!payload.modality) return null;
  const number = payload.frame ? `frame ${payload.frame} of ${payload.frames}` : null;
  return [payload.modality, number].filter(Boolean).join(", ");
}

/** The study in the department's viewer, for whoever may see whose it is. */
export const viewerLink = ({ viewer }) =>
  viewer &&
  h(
    "a",
    { class: "viewer-link", href: viewer, target: "_blank", rel: "noopener noreferrer" },
    "Open in the viewer",
  );

/** @param {object} payload @returns {string} such as "45 years, female, back" */
export function brief(payload) {
  const age = fact(payload, "Age");
  const none = payload.modality ? null : "age not recorded";
  const years = age === null ? none : /^[0-9.]+$/.test(age) ? `${age} years` : age;
  const [sex, site] = ["Sex", "Site"].map((label) => {
    const said = fact(payload, label);
    return said === "unknown" ? `${label.toLowerCase()} unknown` : said;
  });
  return [years, sex, site].filter(Boolean).join(", ");
}

/** @param {object} payload @returns {string|null} */
export const diagnosis = (payload) => fact(payload, "Diagnosis");

/** @param {object} payload @returns {string|null} such as "confirmed by histopathology" */
export function confirmation(payload) {
  const how = fact(payload, "Confirmed by");
  return how && `confirmed by ${how}`;
}

/** What is recorded under a label, whatever the field's name; null if nothing is. */
function fact(payload, label) {
  const found = fields(payload).find(
    ([name, value]) => fieldLabel(name) === label && !["", null].includes(value),
  );
  return found ? valueLabel(found[1], found[0]) : null;
}

/** All fields; those of nested objects have names with dots, as in filters. */
function fields(payload, prefix = "") {
  return Object.entries(payload).flatMap(([name, value]) => {
    const isNested = value !== null && typeof value === "object" && !Array.isArray(value);
    return isNested ? fields(value, `${prefix}${name}.`) : [[prefix + name, value]];
  });
}

/**
 * @param {object} payload
 * @param {[string, string][]} [before] further lines
 * @returns {HTMLElement}
 */
export function factList(payload, before = []) {
  const { image_id: _, instance_id: __, source, ...rest } = payload;
  const place = ([name]) => [...FIRST, fieldLabel(name)].indexOf(fieldLabel(name));
  const shown = fields(rest).sort((a, b) => place(a) - place(b));
  const lines = [
    ...before,
    ...shown.map(([name, value]) => [fieldLabel(name), textOf(name, value)]),
    ...(source?.name ? [["File", String(source.name)]] : []),
  ];
  return h(
    "dl",
    { class: "facts" },
    lines.map(([term, text]) => h("div", {}, h("dt", {}, term), h("dd", {}, text))),
  );
}

/** Shows an id unchanged: somebody may search for it. */
const textOf = (name, value) => (name.endsWith("_id") && value ? String(value) : valueLabel(value, name));

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
export const previewUrl = (id) => here(`/v1/images/${encodeURIComponent(id)}/preview`);

/** @param {string} id @returns {string} */
export const imageUrl = (id) => `/v1/images/${encodeURIComponent(id)}`;
