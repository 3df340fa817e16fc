// A series, a study or an accession as a whole: as the start of a search, and as what results are
// grouped by.

import { byId } from "./dom.js";
import { callJson } from "./server.js";

/** What a search can start from as a whole, and the field that its images share. */
export const COLLECTED = { series: "series_id", study: "study_id", accession: "accession_id" };

/** What results can be grouped by beside the lesion. */
const GROUPS = ["series_id", "study_id"];

/** Images of a series that the slider steps through. */
const MOST = 500;

/**
 * Whether the search compares all frames of its start, each on its own.
 * @param {import("./address.js").State} state
 */
export const isWhole = ({ start, whole, like, unlike }) =>
  start?.kind === "collected" ||
  (start?.kind === "picture" && whole && like.length + unlike.length === 0);

/**
 * The field by which the results are grouped; null if each image counts.
 * @param {import("./address.js").State} state
 */
export const groupOf = (state) =>
  state.near ? null : (state.group ?? (isWhole(state) ? "series_id" : null));

/** @param {{kind: string, by: string, keys: string[]}} start such as all images of a study */
export const conditionOf = ({ by, keys }) => ({
  must: [{ key: COLLECTED[by], match: { any: keys } }],
});

/**
 * The stored images of a series, in their order; at most 500.
 * @param {object} filter
 * @param {AbortSignal} [signal]
 * @returns {Promise<object[]>} Throws Problem.
 */
export async function imagesOf(filter, signal) {
  const query = new URLSearchParams({ limit: String(MOST), filter: JSON.stringify(filter) });
  const { images } = await callJson(`/v1/images?${query}`, { signal });
  return images.sort((a, b) => order(a).localeCompare(order(b), "en", { numeric: true }));
}

const order = ({ payload, image_id: id }) =>
  [payload.series_id, payload.instance_number ?? "", payload.frame ?? "", id].join(" ");

/** @param {(change: object) => void} go */
export function installGroups(go) {
  for (const field of GROUPS) {
    byId(`by-${field}`).addEventListener("change", ({ target }) =>
      go({ group: target.checked ? field : null }),
    );
  }
}

/** Whether the stored images are of DICOM, as far as what is known of the collection tells. */
export const hasSeries = (known) => Boolean(known?.facets.modality?.length);

/** @param {string|null} group */
export const isSeriesGroup = (group) => GROUPS.includes(group);

/**
 * @param {import("./address.js").State} state
 * @param {object|null} known
 */
export function showGroups(state, known) {
  for (const field of GROUPS) {
    const box = byId(`by-${field}`);
    box.checked = groupOf(state) === field;
    // Where whole series are compared, there is a group of some kind in any case.
    box.disabled = state.near || (isWhole(state) && !state.group && field === "series_id");
    box.closest("label").hidden = !(hasSeries(known) || state.group === field || isWhole(state));
  }
}
