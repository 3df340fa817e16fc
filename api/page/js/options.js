// The options: how many results, how similar, and how to count images of one lesion.

import { DEFAULT_LIMIT } from "./address.js";
import { byId, onNumber, putNumber } from "./dom.js";
import { isCombined } from "./search.js";
import { fieldNoun } from "./words.js";

const USUAL_FIELD = "lesion_id";

/**
 * @param {(change: object) => void} go
 */
export function installOptions(go) {
  byId("options").addEventListener("submit", (event) => event.preventDefault());
  onNumber(byId("limit"), (limit) => go({ limit: limit ?? DEFAULT_LIMIT }));
  onNumber(byId("threshold"), (threshold) => go({ threshold }));
  const tick = (id, change) =>
    byId(id).addEventListener("change", ({ target }) => go(change(target.checked)));
  tick("group", (on) => ({ group: on ? byId("group").dataset.field : null }));
  tick("apart", (on) => ({ apart: on ? byId("apart").dataset.field : null }));
  tick("near", (near) => ({ near, ...(near && { group: null }) }));
}

/**
 * @param {import("./address.js").State} state
 * @param {{group_fields: string[]}|null} known
 */
export function showOptions(state, known) {
  putNumber(byId("limit"), state.limit);
  putNumber(byId("threshold"), state.threshold);
  const field = groupField(known);
  tickOf(
    "group",
    state.group,
    field,
    `Count images of one ${fieldNoun(state.group ?? field ?? "")} as one`,
  );
  tickOf("apart", state.apart, field, `Leave out this ${fieldNoun(state.apart ?? field ?? "")}`);
  const hasStored = state.start?.kind === "stored" || state.like.length > 0;
  byId("apart-row").hidden ||= !(hasStored || state.apart);
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

function groupField(known) {
  const fields = known?.group_fields ?? [];
  return fields.includes(USUAL_FIELD) ? USUAL_FIELD : (fields[0] ?? null);
}
