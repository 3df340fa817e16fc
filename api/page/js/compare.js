// Shows two large images side by side: the query image and a result.

import { closenessOf } from "./closeness.js";
import { byId, fill, h, isTyping } from "./dom.js";
import { factList, previewOf, viewerLink } from "./facts.js";
import { markButtons } from "./results.js";
import { similarity } from "./words.js";
import { Why } from "./why.js";
import { Zoom } from "./zoom.js";

/**
 * @typedef {object} Searched the query image, on the left; null after a search by words
 * @property {string} url
 * @property {string} name
 * @property {object|null} payload
 * @property {import("./address.js").Crop|null} crop
 * @property {import("./why.js").Compared} compared what the server is told of it
 */

/**
 * @param {object[]} hits all results to step through
 * @param {object} first the result to begin with
 * @param {Searched|null} searched
 * @param {{marks: import("./marks.js").Marks, onSearch: (id: string) => void, basis?: import("./closeness.js").Basis}} options
 */
export function openCompare(hits, first, searched, { marks, onSearch, basis }) {
  const dialog = byId("compare");
  let zoom = null;
  let why = null;
  let isExplained = false;
  let at = Math.max(0, hits.indexOf(first));

  const show = (number) => {
    why?.close();
    at = number;
    const hit = hits[at];
    const left =
      searched &&
      pane(
        searched.name,
        shownPicture(searched),
        searched.payload ? factList(searched.payload) : null,
      );
    const right = pane(
      hit.image_id,
      h("div", { class: "layer" }, previewOf(hit, { alt: `Similar image ${hit.image_id}` })),
      h("div", {}, closeness(hit), factList(hit.payload, [["Similarity", similarity(hit.score)]])),
    );
    fill(
      dialog,
      h(
        "header",
        { class: "spread" },
        h(
          "h2",
          { id: "compare-title" },
          searched ? "Side by side" : "Image",
          h("span", { class: "quiet" }, ` ${at + 1} of ${hits.length}`),
        ),
        closeButton(),
      ),
      h("div", { class: searched ? "panes two" : "panes" }, left, right),
      h("footer", {}, tools(hit), h("div", { class: "why-note", "aria-live": "polite" })),
    );
    zoom = new Zoom([...dialog.querySelectorAll(".pane-view")]);
    explain();
  };

  /** Shows over both images why they match, or no longer. */
  const explain = () => {
    why?.close();
    const note = dialog.querySelector(".why-note");
    why = new Why([...dialog.querySelectorAll(".layer")], note);
    dialog.querySelector(".why-switch")?.setAttribute("aria-pressed", String(isExplained));
    if (isExplained && searched) why.show(searched.compared, { image_id: hits[at].image_id });
  };

  const whySwitch = () =>
    searched &&
    h(
      "button",
      {
        class: "why-switch",
        "aria-pressed": String(isExplained),
        dataset: { key: "why" },
        onclick: () => {
          isExplained = !isExplained;
          explain();
        },
      },
      "Show why it matched",
    );

  const closeness = (hit) => {
    const said = closenessOf(hit, basis);
    return said && h("p", { class: "closeness" }, said.long);
  };

  const tools = (hit) => [
    h(
      "div",
      { class: "buttons" },
      tool("Previous", () => show(at - 1), at === 0),
      tool("Next", () => show(at + 1), at === hits.length - 1),
    ),
    h(
      "div",
      { class: "buttons", role: "group", "aria-label": "Zoom, both images together" },
      tool("−", () => zoom.zoom(1 / 1.5), false, "Zoom out"),
      tool("+", () => zoom.zoom(1.5), false, "Zoom in"),
      tool("Fit", () => zoom.reset(), false, "Fit"),
    ),
    whySwitch(),
    markButtons(hit.image_id, marks),
    viewerLink(hit),
    h(
      "button",
      { class: "primary", dataset: { key: "search" }, onclick: () => from(hit.image_id) },
      "Search from here",
    ),
  ];

  const tool = (word, onclick, disabled, name = word) =>
    h(
      "button",
      { onclick, disabled, "aria-label": name === word ? null : name, dataset: { key: name } },
      word,
    );

  const closeButton = () =>
    h(
      "button",
      {
        class: "close",
        "aria-label": "Close",
        dataset: { key: "close" },
        onclick: () => dialog.close(),
      },
      "×",
    );

  const from = (id) => {
    dialog.close();
    onSearch(id);
  };

  dialog.onkeydown = (event) => {
    if (!isTyping(event) && zoom.key(event)) event.preventDefault();
  };
  // The content covers the whole dialog, so a click on the dialog itself was beside it.
  dialog.onclick = (event) => event.target === dialog && dialog.close();
  dialog.onclose = () => why?.close();
  show(at);
  dialog.showModal();
  dialog.querySelector(".close").focus();
}

function pane(name, layer, facts) {
  return h(
    "figure",
    { class: "pane" },
    h("figcaption", {}, name),
    h("div", { class: "pane-view" }, layer),
    facts,
  );
}

function shownPicture({ url, name, crop }) {
  const picture = h("img", { src: url, alt: name });
  const layer = h("div", { class: "layer" }, picture);
  if (!crop) return layer;
  const mark = h("span", { class: "crop-mark" });
  layer.append(mark);
  // Only a loaded image has a size, and so a position in the pane.
  const position = () => {
    const scale = Math.min(
      layer.clientWidth / picture.naturalWidth,
      layer.clientHeight / picture.naturalHeight,
    );
    const [width, height] = [picture.naturalWidth * scale, picture.naturalHeight * scale];
    mark.style.left = `${(layer.clientWidth - width) / 2 + crop.left * width}px`;
    mark.style.top = `${(layer.clientHeight - height) / 2 + crop.top * height}px`;
    mark.style.width = `${crop.width * width}px`;
    mark.style.height = `${crop.height * height}px`;
  };
  new ResizeObserver(() => picture.naturalWidth && position()).observe(layer);
  picture.addEventListener("load", position);
  return layer;
}
