// Shows the query: the image with its marked part, its facts, and the examples.

import { installCrop } from "./crop.js";
import { byId, fill, h } from "./dom.js";
import { factList, imageUrl, previewOf, previewUrl, viewerLink } from "./facts.js";
import { closeFrames, frameUrl, showOwn, showSeries, shownId, shownNumber } from "./frames.js";
import { isCombined, isSearch, middle } from "./search.js";
import { callJson } from "./server.js";

let shown = "";

/** The metadata of the stored image that the search starts from. */
let payload = null;

/**
 * Redraws the panel only if its content changes: a crop must not lose the keyboard focus.
 * @param {import("./address.js").State} state
 * @param {import("./picture.js").Picture|null} picture
 * @param {(change: object) => void} go
 */
export function drawQuery(state, picture, go) {
  byId("start").hidden = isSearch(state);
  byId("query").hidden = !isSearch(state);
  const next = keyOf(state, picture);
  if (next === shown) return;
  shown = next;
  payload = null;
  fill(byId("query-facts"));
  closeFrames();
  drawPicture(state, picture, go);
  drawExamples(state, go);
  if (state.start?.kind === "stored") showFacts(state.start.id, next, go);
}

/** @returns {import("./compare.js").Searched|null} */
export function searchedPicture(state, picture) {
  const crop = isCombined(state) ? null : state.crop;
  if (state.start?.kind === "picture" && picture)
    return { url: frameUrl() ?? picture.url, name: "Your image", payload: null, crop, compared: { ...ownFrame(state, picture), crop } };
  if (state.start?.kind === "collected")
    return frameUrl() ? { url: frameUrl(), name: "The searched series", payload: null, crop, compared: { image_id: shownId() } } : null;
  const id = state.start?.kind === "stored" ? state.start.id : state.like[0];
  if (!id || state.start?.kind === "text") return null;
  return { url: previewUrl(id), name: id, payload: state.start ? payload : null, crop, compared: { image_id: id, crop } };
}

/** The file, and its frame, that is shown of an own image. */
function ownFrame({ frame }, { files, isDicom }) {
  const at = shownNumber();
  if (files.length > 1) return { file: files[(at || middle(frame, files.length)) - 1] };
  return { file: files[0], ...(isDicom && at && { frame: at }) };
}

const keyOf = ({ start, crop, frame, whole, like, unlike }, picture) =>
  JSON.stringify([start, crop, frame, whole, like, unlike, picture?.url ?? null]);

function drawPicture(state, picture, go) {
  const container = byId("query-picture");
  const tools = byId("crop-tools");
  tools.replaceChildren();
  const { start } = state;
  if (start?.kind === "text") return fill(container, h("p", { class: "words" }, `“${start.text}”`));
  if (start?.kind === "picture" && !picture) {
    return fill(container, h("p", { class: "quiet" }, "The image is not here."));
  }
  if (!start) return fill(container);
  const own = start.kind === "picture";
  if (start.kind === "collected") {
    const onChosen = (id) => go({ ...WHOLE, start: { kind: "stored", id } });
    return showSeries(container, start, { onChosen });
  }
  const image = own
    ? h("img", { alt: "Your image" })
    : h("img", { src: previewUrl(start.id), alt: `Stored image ${start.id}` });
  const frame = h("div", { class: "crop-frame" }, image);
  fill(container, frame);
  if (own) showOwn(frame, picture, state, { go, onFault: () => notShown(container, tools) });
  else image.addEventListener("error", () => fill(container, tools.replaceChildren()));
  if (own && state.whole && picture.isDicom && !isCombined(state)) return undefined;
  if (isCombined(state)) {
    if (state.crop)
      tools.append(
        h("p", { class: "quiet" }, "While images are marked, the search uses the whole image."),
      );
    return undefined;
  }
  const onCrop = (crop) => {
    shown = keyOf({ ...state, crop }, picture);
    go({ crop });
  };
  return installCrop(frame, tools, { crop: state.crop, onCrop });
}

/** What no longer holds for another start. */
const WHOLE = { crop: null, frame: null, whole: false, words: null, like: [], unlike: [], same: false };

function notShown(container, tools) {
  tools.replaceChildren();
  const text = "This kind of file cannot be shown here. The search works all the same.";
  fill(container, h("p", { class: "quiet" }, text));
}

function drawExamples({ like, unlike }, go) {
  const example = (kind, ids, word) => (id) =>
    h(
      "li",
      {},
      h("img", { src: previewUrl(id), alt: `${word} ${id}`, loading: "lazy", decoding: "async" }),
      h(
        "button",
        {
          class: "remove",
          "aria-label": `Remove: ${word} ${id}`,
          onclick: () => go({ [kind]: ids.filter((one) => one !== id) }),
        },
        "×",
      ),
    );
  const strip = (kind, ids, word) =>
    ids.length > 0 && [
      h("h3", {}, word),
      h("ul", { class: "strip examples" }, ids.map(example(kind, ids, word))),
    ];
  fill(
    byId("examples"),
    strip("like", like, "More like this"),
    strip("unlike", unlike, "Unlike this"),
  );
}

async function showFacts(id, key, go) {
  const container = byId("query-facts");
  try {
    const image = await callJson(imageUrl(id));
    if (key !== shown) return;
    payload = image.payload;
    fill(container, factList(image.payload, [["Image", id]]), viewerLink(image));
    if (image.payload.series_id) {
      const by = "series";
      const start = { kind: "collected", by, keys: [image.payload.series_id] };
      const onChosen = (chosen) => go({ ...WHOLE, start: { kind: "stored", id: chosen } });
      const onWhole = () => go({ ...WHOLE, start });
      showSeries(byId("query-picture"), start, { at: id, onChosen, onWhole });
    }
    // Its size reserves the space while the image loads.
    const { width, height } = previewOf(image);
    Object.assign(byId("query-picture").querySelector("img") ?? {}, { width, height });
  } catch {
    // The search itself reports what is wrong.
    if (key === shown) fill(container, factList({}, [["Image", id]]));
  }
}
