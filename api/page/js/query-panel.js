// What is searched for: the picture with the part that is marked, its facts, and the examples.

import { installCrop } from "./crop.js";
import { byId, fill, h } from "./dom.js";
import { factList, imageUrl, previewOf, previewUrl } from "./facts.js";
import { isCombined, isSearch } from "./search.js";
import { callJson } from "./server.js";

let shown = "";

/** What is known of the held image that is searched for. */
let payload = null;

/**
 * Draws the panel anew only if it would show something else: a crop must not lose the keyboard.
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
  if (state.start?.kind === "held") showFacts(state.start.id, next);
}

/** @returns {import("./compare.js").Searched|null} */
export function searchedPicture(state, picture) {
  const crop = isCombined(state) ? null : state.crop;
  if (state.start?.kind === "picture" && picture)
    return { url: picture.url, name: "Your picture", payload: null, crop };
  const id = state.start?.kind === "held" ? state.start.id : state.like[0];
  if (!id || state.start?.kind === "text") return null;
  return { url: previewUrl(id), name: id, payload: state.start ? payload : null, crop };
}

const keyOf = ({ start, crop, like, unlike }, picture) =>
  JSON.stringify([start, crop, like, unlike, picture?.url ?? null]);

function drawPicture(state, picture, go) {
  const place = byId("query-picture");
  const tools = byId("crop-tools");
  tools.replaceChildren();
  const { start } = state;
  if (start?.kind === "text") return fill(place, h("p", { class: "words" }, `“${start.text}”`));
  if (start?.kind === "picture" && !picture) {
    return fill(place, h("p", { class: "quiet" }, "The picture is not here."));
  }
  if (!start) return fill(place);
  const own = start.kind === "picture";
  const image = own
    ? h("img", { src: picture.url, alt: "Your picture" })
    : h("img", { src: previewUrl(start.id), alt: `Held image ${start.id}` });
  const frame = h("div", { class: "crop-frame" }, image);
  image.addEventListener("error", () => {
    tools.replaceChildren();
    if (own)
      fill(
        place,
        h(
          "p",
          { class: "quiet" },
          "This browser cannot show this kind of file. It is searched all the same.",
        ),
      );
    else fill(place);
  });
  fill(place, frame);
  if (isCombined(state)) {
    if (state.crop)
      tools.append(
        h("p", { class: "quiet" }, "While pictures are marked, the whole picture is searched."),
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
          "aria-label": `Take away: ${word} ${id}`,
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
  const place = byId("query-facts");
  try {
    const image = await callJson(imageUrl(id));
    if (key !== shown) return;
    payload = image.payload;
    fill(place, factList(image.payload, [["Image", id]]));
    // Its size keeps the place free while the picture loads.
    const { width, height } = previewOf(image);
    Object.assign(byId("query-picture").querySelector("img") ?? {}, { width, height });
  } catch {
    // The search itself says what is wrong.
    if (key === shown) fill(place, factList({}, [["Image", id]]));
  }
}
