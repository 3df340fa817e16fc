// Shows images in a grid: results with their similarity, or stored images.

import { closenessOf } from "./closeness.js";
import { h } from "./dom.js";
import { brief, confirmation, diagnosis, previewOf, scanName, viewerLink } from "./facts.js";
import { GROUP_SIZE } from "./search.js";
import { SIMILARITY, counted, fieldNoun, similarity } from "./words.js";

/** The number of images that most screens show at once, and that load first. */
const EAGER = 8;

/**
 * @param {HTMLElement} grid
 * @param {object[]} hits
 * @param {object} options
 * @param {string|null} options.group
 * @param {(hit: object) => void} options.onOpen
 * @param {import("./marks.js").Marks} options.marks
 * @param {import("./closeness.js").Basis} [options.basis]
 */
export function drawResults(grid, hits, { group, onOpen, marks, basis }) {
  grid.replaceChildren(
    ...hits.map((hit, number) => {
      const card = h(
        "li",
        { class: hit.close === false ? "card far" : "card", dataset: { id: hit.image_id } },
        pictureButton(hit, number, () => onOpen(hit)),
        facts(hit, basis),
        markButtons(hit.image_id, marks),
        hit.others?.length ? others(hit, group, onOpen) : null,
      );
      return card;
    }),
  );
}

/**
 * Cards of stored images. Users can start a search from each of them.
 * @param {object[]} images
 * @param {number} before how many images are already shown
 * @param {(id: string) => void} onStart
 * @returns {HTMLElement[]}
 */
export function storedCards(images, before, onStart) {
  return images.map((image, number) => {
    const name = `Search from ${image.image_id}: ${spoken(image.payload)}`;
    const picture = previewOf(image, { loading: before + number < EAGER ? "eager" : "lazy" });
    const button = h(
      "button",
      { class: "picture", "aria-label": name, onclick: () => onStart(image.image_id) },
      picture,
    );
    return h("li", { class: "card", dataset: { id: image.image_id } }, button, facts(image));
  });
}

function pictureButton(hit, number, onclick) {
  const near =
    hit.hash_distance === undefined || hit.hash_distance === null
      ? ""
      : `, ${counted(hit.hash_distance, "differing bit")}`;
  const name = `Compare ${hit.image_id}: similarity ${similarity(hit.score)}${near}, ${spoken(hit.payload)}`;
  const first = number < EAGER;
  const picture = previewOf(hit, {
    loading: first ? "eager" : "lazy",
    fetchpriority: first ? "high" : null,
  });
  return h("button", { class: "picture", "aria-label": name, onclick }, picture);
}

const spoken = (payload) =>
  [diagnosis(payload), scanName(payload), brief(payload)].filter(Boolean).join(", ");

function facts(image, basis) {
  const { payload, score } = image;
  const close = closenessOf(image, basis);
  return h(
    "div",
    { class: "card-facts" },
    h("p", { class: "card-first" }, diagnosis(payload) ?? scanName(payload) ?? image.image_id),
    diagnosis(payload) && scanName(payload) && h("p", { class: "quiet" }, scanName(payload)),
    confirmation(payload) && h("p", { class: "quiet" }, confirmation(payload)),
    score === undefined ? null : h("p", { class: "score", title: SIMILARITY }, scoreText(image)),
    close && h("p", { class: "closeness", title: close.long }, close.short),
    h("p", { class: "quiet" }, brief(payload)),
    image.hash_distance >= 0 &&
      h("p", { class: "quiet" }, `${image.hash_distance} of 256 bits differ`),
    viewerLink(image),
  );
}

/** Of a series, the mean of its frames' best matches, and that of the frame that is shown. */
const scoreText = ({ score, own_score: own }) =>
  own === undefined || own === null
    ? `Similarity ${similarity(score)}`
    : `Similarity ${similarity(score)}, this image ${similarity(own)}`;

const TIPS = {
  like: "Search with this image too, when you have marked all you want",
  unlike: "Search away from this image, when you have marked all you want",
};

/** Two switches; pressing one releases the other. */
export function markButtons(id, marks) {
  const button = (kind, word, sign) =>
    h(
      "button",
      {
        class: `mark ${kind}`,
        "aria-pressed": String(marks.of(id) === kind),
        "aria-label": `${word} ${id}`,
        title: TIPS[kind],
        onclick: () => marks.toggle(id, kind),
        dataset: { mark: kind, id },
      },
      h("span", { "aria-hidden": "true" }, sign),
      ` ${word}`,
    );
  return h(
    "div",
    { class: "mark-pair" },
    button("like", "More like this", "+"),
    button("unlike", "Unlike", "−"),
  );
}

/** Updates the switches of all cards from the marks. @param {import("./marks.js").Marks} marks */
export function refreshMarks(marks) {
  for (const button of document.querySelectorAll("button[data-mark]")) {
    button.setAttribute(
      "aria-pressed",
      String(marks.of(button.dataset.id) === button.dataset.mark),
    );
  }
}

function others(hit, group, onOpen) {
  const number = hit.others.length;
  const orMore = number >= GROUP_SIZE - 1 ? " or more" : "";
  const strip = h(
    "div",
    { class: "strip" },
    hit.others.map((other) => pictureButton(other, EAGER, () => onOpen(other))),
  );
  return h(
    "details",
    { class: "others" },
    h("summary", {}, `${number}${orMore} more of this ${fieldNoun(group ?? "lesion_id")}`),
    strip,
  );
}
