// The options: how many results, how similar, and how to count images of one lesion.

import { DEFAULT_LIMIT } from "./address.js";
import { installCloseness, showCloseness } from "./closeness.js";
import { byId, onNumber, putNumber } from "./dom.js";
import { isCombined, leavesOutSame } from "./search.js";
import { hasSeries, installGroups, isSeriesGroup, isWhole, showGroups } from "./series.js";
import { fieldNoun } from "./words.js";

/**
 * @param {(change: object) => void} go
 */
export function installOptions(go) {
  byId("options").addEventListener("submit", (event) => event.preventDefault());
  onNumber(byId("limit"), (limit) => go({ limit: limit ?? DEFAULT_LIMIT }));
  onNumber(byId("threshold"), (threshold) => go({ threshold }));
  installCloseness(go);
  const tick = (id, change) =>
    byId(id).addEventListener("change", ({ target }) => go(change(target.checked)));
  tick("group", (on) => ({ group: on ? byId("group").dataset.field : null }));
  installGroups(go);
  tick("same", (same) => ({ same }));
  tick("near", (near) => ({ near, ...(near && { group: null }) }));
}

/**
 * @param {import("./address.js").State} state
 * @param {{group_fields: string[], lesion_field: string|null}|null} known
 */
export function showOptions(state, known) {
  putNumber(byId("limit"), state.limit);
  putNumber(byId("threshold"), state.threshold);
  showCloseness(state, known);
  const field = groupField(known);
  const group = isSeriesGroup(state.group) ? null : state.group;
  tickOf("group", group, field, `Count images of one ${fieldNoun(group ?? field ?? "")} as one`);
  showGroups(state, known);
  byId("same").checked = state.same;
  byId("same-label").textContent = `Show the same ${lesionNoun(known, state)}`;
  byId("same-row").hidden = !(leavesOutSame(state) || state.same);
  byId("near").checked = state.near;
  const onePicture = state.start?.kind === "stored" || state.start?.kind === "picture";
  byId("near-row").hidden = !(state.near || (onePicture && !isCombined(state)));
  byId("group").disabled = state.near;
}

function tickOf(id, chosen, usual, label) {
  const box = byId(id);
  box.checked = chosen !== null;
  box.dataset.field = chosen ?? usual ?? "";
  byId(`${id}-label`).textContent = label;
  byId(`${id}-row`).hidden = !(chosen ?? usual);
}

const groupField = (known) => known?.lesion_field ?? known?.group_fields[0] ?? null;

/**
 * What the images of one lesion share; of DICOM, their series.
 * @param {object|null} known
 * @param {import("./address.js").State} [state]
 */
export const lesionNoun = (known, state) => {
  if (state && isWhole(state)) return "series";
  return hasSeries(known) ? `${ownNoun(known)} or series` : ownNoun(known);
};

const ownNoun = (known) =>
  known?.lesion_field === null ? "image" : fieldNoun(known?.lesion_field ?? "lesion_id");
