// When there are no images to show, says why and what to do about it.

import { byId, fill, h } from "./dom.js";
import { DEFAULT_LIMIT, emptyState } from "./address.js";
import { activeFilters } from "./filters.js";
import { leavesOutSame } from "./search.js";
import { lesionNoun } from "./options.js";

/** Shows a message in place of images. @param {HTMLElement|null} content null: no message */
export function say(content) {
  byId("message").hidden = content === null;
  fill(byId("message"), content);
}

/** A block of a title, sentences and buttons. @returns {HTMLElement} */
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
  if (known?.count === 0) return nothingStored();
  const button = (word, change) =>
    h("button", { class: "primary", onclick: () => go(change) }, word);
  const buttons = [];
  if (activeFilters(state)) buttons.push(button("Clear the filters", { choices: {}, ranges: {} }));
  if (state.threshold !== null) buttons.push(button("Any similarity", { threshold: null }));
  if (leavesOutSame(state))
    buttons.push(button(`Show the same ${lesionNoun(known)}`, { same: true }));
  if (state.near) {
    return block(
      "No near-duplicates found",
      ["No stored image is nearly the same."],
      ...buttons,
      button("Search for similar images", { near: false }),
    );
  }
  const why = buttons.length
    ? "No stored image matches all conditions. Fewer conditions may find some."
    : "No stored image is left to compare with.";
  return block("No images found", [why], ...buttons);
}

function nothingStored() {
  return h(
    "div",
    {},
    h("h3", {}, "No images are stored yet"),
    h("p", {}, "Kindred compares an image with stored images, and so far there are none."),
    h(
      "p",
      { "data-needs": "ingest" },
      "Upload images or name a data set under ",
      h("a", { href: "./?view=jobs", "data-inside": true }, "Jobs"),
      ", or on the server: ",
      h("code", {}, "kindred ingest FOLDER"),
    ),
    h("p", { "data-lacks": "ingest" }, "Ask your administrator to add some."),
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
    closeness: ["Without a level of closeness", { closeness: null }],
    crop: ["Search the whole image", { crop: null }],
    open: ["Start with a stored image", { ...usual }],
    filters: ["Clear the filters", { choices: {}, ranges: {} }],
    options: ["Clear these options", { group: null, near: false }],
    id: ["Choose a stored image", { ...usual }],
    picture: ["Choose another image", { start: null, crop: null }],
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
    "Please choose the image again",
    [
      "This search started from an image on somebody’s own computer. An address cannot hold an image; the rest of the search is here.",
    ],
    h("button", { class: "primary", onclick: () => byId("file").click() }, "Choose the image"),
    h("button", { onclick: () => go({ start: null, crop: null }) }, "Start from a stored image"),
  );

/** @param {boolean} isReady whether a worker is available @returns {HTMLElement} */
export function waitingMessage(isReady) {
  const why = isReady
    ? "Kindred is busy with other searches."
    : "The part of Kindred that compares images is not available just now.";
  return block("Your search is waiting", [`${why} The results will appear here by themselves.`]);
}
