// Shows the query: the image with its marked part, its facts, and the examples.

import { installCrop } from "./crop.js";
import { byId, fill, h } from "./dom.js";
import { factList, imageUrl, previewOf, previewUrl } from "./facts.js";
import { isCombined, isSearch } from "./search.js";
import { callJson } from "./server.js";

let shown = "";

/** The metadata of the stored image that the search starts from. */
let payload = null;

/**
 * Redraws the panel only if its content changes: a crop must not lose the keyboard focus.
 * @param {import("./address.js").State} state
 * @param {{file: File, url: string}|null} picture
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
  drawPicture(state, picture, go);
  drawExamples(state, go);
  if (state.start?.kind === "stored") showFacts(state.start.id, next);
}

/** @returns {import("./compare.js").Searched|null} */
export function searchedPicture(state, picture) {
  const crop = isCombined(state) ? null : state.crop;
  if (state.start?.kind === "picture" && picture)
    return { url: picture.url, name: "Your image", payload: null, crop };
  const id = state.start?.kind === "stored" ? state.start.id : state.like[0];
  if (!id || state.start?.kind === "text") return null;
  return { url: previewUrl(id), name: id, payload: state.start ? payload : null, crop };
}

const keyOf = ({ start, crop, like, unlike }, picture) =>
  JSON.stringify([start, crop, like, unlike, picture?.url ?? null]);

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
  const image = own
    ? h("img", { src: picture.url, alt: "Your image" })
    : h("img", { src: previewUrl(start.id), alt: `Stored image ${start.id}` });
  const frame = h("div", { class: "crop-frame" }, image);
  image.addEventListener("error", () => {
    tools.replaceChildren();
    if (own)
      fill(
        container,
        h(
          "p",
          { class: "quiet" },
          "This browser cannot show this kind of file. The search works all the same.",
        ),
      );
    else fill(container);
  });
  fill(container, frame);
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

async function showFacts(id, key) {
  const container = byId("query-facts");
  try {
    const image = await callJson(imageUrl(id));
    if (key !== shown) return;
    payload = image.payload;
    fill(container, factList(image.payload, [["Image", id]]));
    // Its size reserves the space while the image loads.
    const { width, height } = previewOf(image);
    Object.assign(byId("query-picture").querySelector("img") ?? {}, { width, height });
  } catch {
    // The search itself reports what is wrong.
    if (key === shown) fill(container, factList({}, [["Image", id]]));
  }
}
