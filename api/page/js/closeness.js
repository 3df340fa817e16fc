// Says in words how close a result is, as the collection's evaluation has measured it.

import { byId, fill, h } from "./dom.js";
import { isMeasured } from "./search.js";
import { capital, counted, fieldNoun, valueLabel } from "./words.js";

/** The levels that are offered, as parts of all neighbours. */
const LEVELS = [0.3, 0.5, 0.7, 0.9];

/**
 * @typedef {{share: number, low: number, high: number, neighbours: number, label: string|null}} Closeness
 * @typedef {object} Basis what it was measured by
 * @property {string} label the field that neighbours share, or not
 * @property {string} created_at
 * @property {number} images
 * @property {number} least_score below it nothing is known
 * @property {"encoder"|"images"} [void] what has changed too much since
 */

/** Such as "7 of 10"; where that would round to none or all, of 100. */
export function share(part) {
  const of = part >= 0.095 && part < 0.945 ? 10 : 100;
  return `${Math.round(part * of)} of ${of}`;
}

/** @param {Closeness} closeness @returns {string} such as "6 to 8", never narrower than it is */
function interval({ share: part, low, high }) {
  const of = part >= 0.095 && part < 0.945 ? 10 : 100;
  return `${Math.floor(low * of + 1e-6)} to ${Math.ceil(high * of - 1e-6)}`;
}

/**
 * What a result's card says, and its whole sentence.
 * @param {{score: number, closeness?: Closeness, close?: boolean}} hit
 * @param {Basis|undefined} basis
 * @returns {{short: string, long: string}|null} null where nothing is to say
 */
export function closenessOf({ score, closeness, close }, basis) {
  if (!basis) return null;
  const field = fieldNoun(basis.label);
  const far = close === false ? "Not close: " : "";
  if (closeness) {
    const { label, neighbours } = closeness;
    const which = label === null ? "" : ` with ${field} ${valueLabel(label, basis.label)}`;
    const long = `at this similarity, ${share(closeness.share)} neighbours${which} in this collection shared the ${field}, interval ${interval(closeness)} (${counted(neighbours, "neighbour")} counted)`;
    const short = `${share(closeness.share)} shared the ${field} (${interval(closeness)})`;
    return { short: far ? far + short : short, long: far ? far + long : capital(long) };
  }
  if (score >= basis.least_score) return null;
  const text = "less similar than nearly all neighbours in this collection";
  return { short: far ? far + text : capital(text), long: far ? far + text : capital(text) };
}

/** The sentence above the results; empty without a basis. @param {Basis|undefined} basis */
export function drawClosenessNote(basis) {
  const note = byId("closeness-note");
  note.hidden = !basis;
  if (!basis) return;
  const field = fieldNoun(basis.label);
  note.textContent = `“7 of 10 shared the ${field}” counts neighbours as similar as the result, among this collection’s own images, when it was evaluated on ${day(basis.created_at)}. It is no probability for a patient.`;
}

/**
 * Says that no result reaches the chosen level.
 * @param {boolean} none
 * @param {number} level
 * @param {Basis|undefined} basis
 * @param {(change: object) => void} go
 */
export function drawNoCloseMatch(none, level, basis, go) {
  const box = byId("no-close-match");
  box.hidden = !none;
  if (!none || !basis) return;
  const field = fieldNoun(basis.label);
  fill(
    box,
    h("h3", {}, "No close match"),
    h(
      "p",
      {},
      `At the similarity of these images, fewer than ${share(level)} neighbours in this collection shared the ${field}. They are shown dimmed: the most similar that there are, and not close.`,
    ),
    h("button", { onclick: () => go({ closeness: null }) }, "Show without this level"),
  );
}

/** @param {(change: object) => void} go */
export function installCloseness(go) {
  byId("closeness").addEventListener("change", ({ target }) =>
    go({ closeness: target.value === "" ? null : Number(target.value) }),
  );
}

/**
 * The level to choose, or why there is none.
 * @param {import("./address.js").State} state
 * @param {{closeness?: Basis}|null} known
 */
export function showCloseness(state, known) {
  const basis = known?.closeness;
  const chosen = state.closeness;
  const isUsable = Boolean(basis && !basis.void && isMeasured(state));
  byId("closeness-row").hidden = !isUsable && chosen === null;
  byId("closeness-void").hidden = !basis?.void;
  byId("closeness-void").textContent = basis?.void ? VOID[basis.void] : "";
  const field = fieldNoun(basis?.label ?? "dx");
  const levels = [...new Set([...LEVELS, ...(chosen > 0 ? [chosen] : [])])].sort((a, b) => a - b);
  fill(
    byId("closeness"),
    h("option", { value: "" }, "any"),
    levels.map((level) => h("option", { value: String(level) }, `${share(level)} shared the ${field}`)),
  );
  byId("closeness").value = chosen === null ? "" : String(chosen);
}

const AGAIN = "Until it is evaluated again, results do not say how close they are.";
const VOID = {
  encoder: `This collection was evaluated with another encoder. ${AGAIN}`,
  images: `This collection has changed much since it was evaluated. ${AGAIN}`,
};

const day = (time) =>
  new Date(time).toLocaleDateString("en-GB", { day: "numeric", month: "long", year: "numeric" });
