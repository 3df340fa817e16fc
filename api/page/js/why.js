// Shows, over two images side by side, which parts of them look alike to the encoder.

import { fill, h } from "./dom.js";
import { answered } from "./search.js";
import { Problem } from "./server.js";
import { counted, sentence } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";

/** How dark a part is that does not match at all: what it shows stays just visible. */
const VEIL = 0.8;

const LEGEND =
  "Brighter: these parts of the two images look most alike to the encoder. It does not show what matters medically.";
const NONE = "No part of one image looks more like a part of the other than all others do.";
const CANNOT =
  "The encoder of this server looks at an image as a whole, so it cannot show which parts match. Searches work all the same.";

/**
 * @typedef {object} Compared one of the two images
 * @property {string} [image_id] a stored one
 * @property {File} [file] else the user's own
 * @property {number} [frame] of an own DICOM file
 * @property {import("./address.js").Crop|null} [crop] the part of it that was searched for
 */

export class Why {
  #layers;
  #note;
  #running = new AbortController();
  #overlays = [];
  #found = null;
  #at = -1;

  /**
   * @param {HTMLElement[]} layers each contains one of the two images, the searched one first
   * @param {HTMLElement} note receives the legend, and what is wrong
   */
  constructor(layers, note) {
    this.#layers = layers;
    this.#note = note;
  }

  /** @param {Compared} first @param {Compared} second */
  async show(first, second) {
    const { signal } = this.#running;
    fill(this.#note, h("p", { class: "quiet" }, "Comparing the images part by part…"));
    try {
      const found = await explained(first, second, signal);
      await Promise.all(this.#layers.map((layer) => layer.querySelector("img").decode()));
      if (signal.aborted) return;
      this.#found = found;
      this.#draw();
    } catch (error) {
      if (!signal.aborted) fill(this.#note, h("p", { class: "fault" }, wrong(error)));
    }
  }

  /** Removes the overlays, and ends what is running. */
  close() {
    this.#running.abort();
    for (const { svg } of this.#overlays) svg.remove();
    this.#overlays = [];
    fill(this.#note);
  }

  #draw() {
    const { first, second, matches } = this.#found;
    const most = Math.max(...first.weights, ...second.weights);
    this.#overlays = [first, second].map((side, number) => {
      const overlay = overlayOf(this.#layers[number], side, most);
      overlay.onPatch = (patch) => this.#mark(number, patch);
      overlay.svg.addEventListener("pointermove", (event) => overlay.onPatch(patchAt(event)));
      overlay.svg.addEventListener("pointerleave", () => this.#mark(number, null));
      return overlay;
    });
    fill(this.#note, this.#tools(matches.filter(({ mutual }) => mutual)));
  }

  #tools(matches) {
    if (!matches.length) return [h("p", { class: "quiet" }, NONE)];
    const told = h("span", { class: "quiet", role: "status" }, `${counted(matches.length, "matching part")}`);
    const step = (by) => () => {
      this.#at = (this.#at + by + matches.length) % matches.length;
      const { first, second } = matches[this.#at];
      this.#outline([first, second]);
      told.textContent = `Matching part ${this.#at + 1} of ${matches.length}: ${placeOf(first)} of the first image, ${placeOf(second)} of the second`;
    };
    const button = (word, name, by) => h("button", { "aria-label": name, onclick: step(by) }, word);
    return [
      h("p", {}, LEGEND),
      h(
        "div",
        { class: "buttons", role: "group", "aria-label": "Matching parts" },
        button("‹", "Previous matching part", -1),
        button("›", "Next matching part", 1),
        told,
      ),
    ];
  }

  /** Outlines a patch that is pointed at, and its counterpart in the other image. */
  #mark(number, patch) {
    if (patch === null) return this.#outline([null, null]);
    const sides = [this.#found.first, this.#found.second];
    const boxes = [boxOf(sides[number], patch)];
    boxes.push(boxOf(sides[1 - number], sides[number].counterparts[patch]));
    return this.#outline(number ? boxes.reverse() : boxes);
  }

  #outline(boxes) {
    this.#overlays.forEach(({ mark, width, height }, number) => {
      const box = boxes[number];
      mark.style.display = box ? "" : "none";
      if (box) place(mark, box, width, height);
    });
  }
}

/** @returns {Promise<object>} Throws Problem. */
async function explained(first, second, signal) {
  const side = ({ image_id, frame, crop }) => ({
    ...(image_id && { image_id }),
    ...(frame && { frame }),
    ...(crop && { crop }),
  });
  const files = [first, second].map(({ file }) => file).filter(Boolean);
  const query = { first: side(first), second: side(second) };
  return answered("/v1/explanations", query, files, { signal, onWaiting: () => {} });
}

function wrong(error) {
  if (!(error instanceof Problem)) return "One of the images cannot be shown.";
  if (error.status === 409) return CANNOT;
  if (error.status === 404) return "One of the two images is no longer stored.";
  return `The images cannot be compared part by part. ${sentence(error)}`.trim();
}

/** An SVG over the image, which fits into its layer exactly as the image does. */
function overlayOf(layer, side, most) {
  const { naturalWidth: width, naturalHeight: height } = layer.querySelector("img");
  const svg = element("svg", { class: "why", viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
  const mark = element("g", { class: "why-mark" });
  mark.append(element("rect", {}), element("rect", {}));
  mark.style.display = "none";
  svg.append(veil(side.seen, width, height));
  side.weights.forEach((weight, patch) => {
    const box = boxOf(side, patch);
    const rect = element("rect", { "data-patch": patch, "fill-opacity": VEIL * (1 - (most && weight / most)) });
    put(rect, box, width, height);
    svg.append(rect);
  });
  svg.append(mark);
  layer.append(svg);
  return { svg, mark, width, height };
}

/** Covers what the encoder did not see. */
function veil({ left, top, width: w, height: h }, width, height) {
  const [x, y, right, bottom] = [left * width, top * height, (left + w) * width, (top + h) * height];
  const whole = `M0 0H${width}V${height}H0Z`;
  const hole = `M${x} ${y}H${right}V${bottom}H${x}Z`;
  return element("path", { d: `${whole}${hole}`, "fill-rule": "evenodd", "fill-opacity": VEIL });
}

function boxOf({ seen, rows, columns }, patch) {
  const [row, column] = [Math.floor(patch / columns), patch % columns];
  const [width, height] = [seen.width / columns, seen.height / rows];
  return { left: seen.left + column * width, top: seen.top + row * height, width, height };
}

/** A dark and a bright line, so that it is seen on any image. */
function place(mark, box, width, height) {
  for (const rect of mark.children) put(rect, box, width, height);
}

function put(rect, { left, top, width: w, height: h }, width, height) {
  const values = { x: left * width, y: top * height, width: w * width, height: h * height };
  for (const [name, value] of Object.entries(values)) rect.setAttribute(name, String(value));
}

/** Such as "upper left". */
function placeOf({ left, top, width, height }) {
  const third = (at, names) => names[Math.min(2, Math.max(0, Math.floor(at * 3)))];
  const across = third(left + width / 2, ["left", "", "right"]);
  const down = third(top + height / 2, ["upper", "", "lower"]);
  return [down, across].filter(Boolean).join(" ") || "middle";
}

function patchAt({ target }) {
  const patch = target instanceof Element ? target.getAttribute("data-patch") : null;
  return patch === null ? null : Number(patch);
}

function element(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  return made;
}
