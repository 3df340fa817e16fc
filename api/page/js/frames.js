// The frames of what is searched: of an own file, as the server renders them, or of a stored series.

import { byId, fill, h } from "./dom.js";
import { render } from "./dicom.js";
import { previewUrl, scanName } from "./facts.js";
import { conditionOf, imagesOf } from "./series.js";
import { isCombined, middle } from "./search.js";
import { Viewer } from "./viewer.js";

/** @type {Viewer|null} */
let viewer = null;
let running = new AbortController();

/** @type {string|null} */
let chosen = null;

/** Ends what an earlier query shows. */
export function closeFrames() {
  running.abort();
  running = new AbortController();
  viewer?.close();
  viewer = null;
  chosen = null;
  fill(byId("frame-tools"));
}

/** What is shown now, for the images side by side; null if it is a plain picture. */
export const frameUrl = () => (viewer ? byId("query-picture").querySelector("img")?.src : null);

/** The number of the frame that is shown of an own image, counted from 1; 0 or null: not known. */
export const shownNumber = () => viewer?.at ?? null;

/** The id of the image that is shown of a stored series. */
export const shownId = () => chosen;

/**
 * Shows an own picture. What the browser cannot show, the server renders.
 * @param {HTMLElement} frame contains the image
 * @param {import("./picture.js").Picture} picture
 * @param {import("./address.js").State} state
 * @param {{go: (change: object) => void, onFault: () => void}} told
 */
export function showOwn(frame, picture, state, { go, onFault }) {
  const image = frame.querySelector("img");
  if (picture.isDicom) return showDicom(frame, picture, state, { go, onFault });
  const { signal } = running;
  const instead = async () => {
    try {
      const { url } = await render(picture.file, { signal });
      if (!signal.aborted) image.src = url;
    } catch {
      if (!signal.aborted) onFault();
    }
  };
  image.addEventListener("error", instead, { once: true });
  image.src = picture.url;
}

function showDicom(frame, { files }, state, { go, onFault }) {
  const tools = byId("frame-tools");
  const several = files.length > 1;
  const load = async (number, window, signal) => {
    const at = several ? { file: files[number - 1] } : { file: files[0], frame: number };
    const made = await render(at.file, { frame: at.frame || undefined, window, signal });
    if (!several && !number) viewer?.place(made.frame);
    return { ...made, count: several ? files.length : made.frames };
  };
  const source = { count: several ? files.length : 1, load, isRendered: true };
  const noun = several ? "Image" : "Frame";
  // How many frames a single file has, and so which is the middle one, only its rendering tells.
  const at = several ? middle(state.frame, files.length) : (state.frame ?? 0);
  const onFrame = (number) => go({ frame: number, whole: false });
  viewer = new Viewer(frame, tools, { ...source, noun }, { at, onFrame, onFault });
  if (isCombined(state)) return;
  const change = (whole) => () => go({ whole, frame: viewer.at || null });
  const one = `Compare this ${noun.toLowerCase()} only`;
  const [word, whole] = state.whole ? [one, false] : ["Compare the whole series", true];
  viewer.whenSeveral(h("button", { type: "button", onclick: change(whole) }, word));
}

/**
 * Shows the stored images of a series with a slider, in place of the one image.
 * @param {HTMLElement} container
 * @param {object} start what the images belong to
 * @param {{at?: string, onChosen: (id: string) => void, onWhole?: () => void}} told
 *   `at` is the image to begin with; `onChosen` is called with the one to search from
 */
export async function showSeries(container, start, { at, onChosen, onWhole }) {
  const { signal } = running;
  // The search itself reports what is wrong.
  const images = await imagesOf(conditionOf(start), signal).catch(() => []);
  if (signal.aborted || !images.length) return;
  let image = container.querySelector("img");
  if (!image) {
    image = h("img", { alt: "An image of the searched series" });
    fill(container, h("div", { class: "crop-frame" }, image));
  }
  const began = images.findIndex((one) => one.image_id === at);
  const first = began < 0 ? middle(null, images.length) : began + 1;
  const tools = byId("frame-tools");
  const name = h("p", { class: "quiet" });
  const from = h("button", { type: "button" }, "Search from this image");
  const load = async (number) => {
    const { image_id: id, payload } = images[number - 1];
    chosen = id;
    name.textContent = scanName(payload) ?? id;
    from.hidden = id === at;
    from.onclick = () => onChosen(id);
    return { url: previewUrl(id), window: null };
  };
  const source = { count: images.length, load, isRendered: false, noun: "Image" };
  const nothing = () => {};
  viewer = new Viewer(image.parentElement, tools, source, { at: first, onFrame: nothing, onFault: nothing });
  const whole = onWhole && h("button", { type: "button", onclick: onWhole }, "Compare the whole series");
  tools.append(name, h("div", { class: "buttons" }, from, images.length > 1 && whole));
}
