// What stands in the place of pictures when there are none: why, and what to do about it.

import { byId, fill, h } from "./dom.js";
import { DEFAULT_LIMIT, emptyState } from "./address.js";
import { activeFilters } from "./filters.js";
import { fieldLabel } from "./words.js";

/** @param {HTMLElement|null} content null: nothing has to be said */
export function say(content) {
  byId("message").hidden = content === null;
  fill(byId("message"), content);
}

/** A title, sentences, and buttons. @returns {HTMLElement} */
export const block = (title, sentences, ...buttons) =>
  h(
    "div",
    {},
    h("h3", {}, title),
    sentences.map((text) => h("p", {}, text)),
    h("div", { class: "buttons" }, buttons),
  );

/**
 * @param {import("./address.js").State} state
 * @param {{count: number}|null} known
 * @param {(change: object) => void} go
 * @returns {HTMLElement}
 */
export function emptyMessage(state, known, go) {
  if (known?.count === 0) return nothingHeld();
  const button = (word, change) =>
    h("button", { class: "primary", onclick: () => go(change) }, word);
  const buttons = [];
  if (activeFilters(state)) buttons.push(button("Clear the filters", { choices: {}, ranges: {} }));
  if (state.threshold !== null) buttons.push(button("Any similarity", { threshold: null }));
  if (state.apart)
    buttons.push(button(`Take ${fieldLabel(state.apart).toLowerCase()} in again`, { apart: null }));
  if (state.near) {
    return block(
      "No near-duplicates are held",
      ["No held image is nearly the same picture."],
      ...buttons,
      button("Search for similar pictures", { near: false }),
    );
  }
  const why = buttons.length
    ? "No held image fits what is asked for. Fewer conditions may bring some."
    : "No held image is left to compare with.";
  return block("No pictures found", [why], ...buttons);
}

function nothingHeld() {
  return h(
    "div",
    {},
    h("h3", {}, "Nothing is held yet"),
    h("p", {}, "Kindred compares a picture with those that it holds, and it holds none so far."),
    h(
      "p",
      {},
      "Upload pictures or name a data set under ",
      h("a", { href: "/?view=jobs", "data-inside": true }, "Jobs"),
      ", or on the server: ",
      h("code", {}, "kindred ingest FOLDER"),
    ),
  );
}

/**
 * @param {import("./words.js").Fault[]} faults
 * @param {(change: object) => void} go
 * @returns {HTMLElement}
 */
export function faultMessage(faults, go) {
  const usual = emptyState();
  const repairs = {
    limit: ["Show the usual number", { limit: DEFAULT_LIMIT }],
    threshold: ["Any similarity", { threshold: null }],
    crop: ["Search the whole picture", { crop: null }],
    filters: ["Clear the filters", { choices: {}, ranges: {} }],
    options: ["Clear these options", { group: null, apart: null, near: false }],
    id: ["Choose a held image", { ...usual }],
    picture: ["Choose another picture", { start: null, crop: null }],
    message: ["Start again", { ...usual }],
  };
  const places = [...new Set(faults.map(({ place }) => place))];
  const buttons = places.map((place) => {
    const [word, change] = repairs[place] ?? repairs.message;
    return h("button", { class: "primary", onclick: () => go(change) }, word);
  });
  return block(
    "This cannot be searched",
    faults.map(({ text }) => text),
    ...buttons,
  );
}

/** @param {(change: object) => void} go @returns {HTMLElement} */
export const missingMessage = (go) =>
  block(
    "The picture has to be chosen again",
    [
      "This search started from a picture on somebody’s own computer. An address cannot hold a picture; everything else of the search is here.",
    ],
    h("button", { class: "primary", onclick: () => byId("file").click() }, "Choose the picture"),
    h("button", { onclick: () => go({ start: null, crop: null }) }, "Start from a held image"),
  );

/** @param {boolean} isReady whether a worker is there @returns {HTMLElement} */
export function waitingMessage(isReady) {
  const why = isReady
    ? "Kindred is busy with other searches."
    : "The part of Kindred that compares pictures is away just now.";
  return block("Your search waits", [
    `${why} It is kept, and answered by itself as soon as that is over.`,
  ]);
}
