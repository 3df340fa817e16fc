// Shows frames with a slider, and their grey values in a window that is changed by dragging, as
// viewers of scans have it: left and right for the width, up and down for the centre.

import { h } from "./dom.js";

/** In milliseconds without a further movement, before the server renders again. */
const REST = 150;

/** Of the window's width, for each pixel that is dragged. */
const STEP = 1 / 200;
const LEAST_WIDTH = 1e-3;

/** In CSS, of stored previews: their grey values have eight bits, so only light and contrast change. */
const PLAIN = { centre: 0.5, width: 1 };

/**
 * @typedef {import("./dicom.js").Window} Window
 * @typedef {object} Source where the frames come from
 * @property {number} count how many there are; more are learnt from `load`
 * @property {(number: number, window: Window|null, signal: AbortSignal) => Promise<{url: string, window: Window|null, count?: number}>} load
 *   of the frame with this number, counted from 1. Throws Problem
 * @property {boolean} isRendered whether `load` applies a window
 * @property {string} noun of what the slider steps through: "Frame" or "Image"
 */

export class Viewer {
  #source;
  #image;
  #told;
  #at;
  #window = null;
  #usual = null;
  #running = new AbortController();
  #timer = 0;
  #parts;

  /**
   * @param {HTMLElement} frame contains the image and nothing else
   * @param {HTMLElement} tools receives the controls
   * @param {Source} source
   * @param {{at: number, onFrame: (number: number) => void, onFault: (error: Error) => void}} options
   *   `onFrame` is called when a frame was chosen, not while the slider moves
   */
  constructor(frame, tools, source, { at, onFrame, onFault }) {
    this.#source = source;
    this.#image = frame.querySelector("img");
    this.#told = { onFrame, onFault };
    this.#at = at;
    this.#parts = this.#controls();
    tools.append(this.#parts.slider, this.#parts.window);
    this.#drag(frame);
    this.#draw();
    this.show(at);
  }

  /** The frame that is shown, counted from 1. */
  get at() {
    return this.#at;
  }

  /** Where the middle frame is, once that is known. @param {number} number */
  place(number) {
    this.#at = number;
  }

  /** Shows a control where there is more than one frame. @param {HTMLElement} control */
  whenSeveral(control) {
    this.#parts.window.before(control);
    this.#parts.several = control;
    this.#draw();
  }

  /** @param {number} number counted from 1; 0: the middle one */
  async show(number) {
    this.#at = number;
    this.#draw();
    await this.#load();
  }

  /** Ends what is loading, and frees the picture. */
  close() {
    clearTimeout(this.#timer);
    this.#running.abort();
    free(this.#image.src);
  }

  async #load() {
    this.#running.abort();
    this.#running = new AbortController();
    const { signal } = this.#running;
    try {
      const made = await this.#source.load(this.#at, this.#window, signal);
      if (signal.aborted) return free(made.url);
      free(this.#image.src);
      this.#image.src = made.url;
      if (made.count) this.#source.count = made.count;
      if (!this.#window) this.#usual = this.#source.isRendered ? made.window : PLAIN;
      this.#image.style.filter = this.#source.isRendered ? "" : filterOf(PLAIN, this.#window);
      this.#draw();
    } catch (error) {
      if (!signal.aborted && error.name !== "AbortError") this.#told.onFault(error);
    }
  }

  #set(window) {
    this.#window = window;
    this.#draw();
    this.#image.style.filter = filterOf(this.#usual, window);
    if (!this.#source.isRendered) return;
    clearTimeout(this.#timer);
    // The filter is near it meanwhile; the server shows what the eight bits here no longer have.
    this.#timer = setTimeout(() => this.#load(), REST);
  }

  #reset() {
    if (this.#window) this.#set(null);
  }

  #controls() {
    const range = h("input", { type: "range", min: 1, step: 1, class: "frame-slider" });
    const text = h("output", { class: "quiet" });
    range.addEventListener("input", () => this.show(Number(range.value)));
    range.addEventListener("change", () => this.#told.onFrame(this.#at));
    const slider = h("label", { class: "frames" }, h("span", {}, this.#source.noun), range, text);
    const [centre, width] = ["Level", "Width"].map((name) =>
      h("input", { type: "number", step: "any", "aria-label": `Window: ${name.toLowerCase()}` }),
    );
    const typed = () => {
      const [c, w] = [centre, width].map((input) => input.valueAsNumber);
      if (Number.isFinite(c) && w > 0) this.#set(this.#asWindow(c, w));
    };
    for (const input of [centre, width]) input.addEventListener("change", typed);
    const reset = h("button", { type: "button", class: "link", onclick: () => this.#reset() }, "Reset");
    const hint = "Drag on the image: up and down for the level, left and right for the width";
    const names = this.#source.isRendered ? ["Level", "Width"] : ["Light", "Contrast"];
    const window = h(
      "div",
      { class: "window", role: "group", "aria-label": "Grey values", title: hint },
      h("label", {}, h("span", {}, names[0]), centre),
      h("label", {}, h("span", {}, names[1]), width),
      reset,
    );
    if (!this.#source.isRendered) {
      centre.setAttribute("aria-label", "Light, in %");
      width.setAttribute("aria-label", "Contrast, in %");
    }
    return { slider, range, text, window, centre, width, reset, several: null };
  }

  #draw() {
    const { slider, range, text, window, centre, width, reset } = this.#parts;
    const { count, noun, isRendered } = this.#source;
    slider.hidden = count < 2;
    if (this.#parts.several) this.#parts.several.hidden = count < 2;
    range.max = String(count);
    range.value = String(this.#at);
    range.setAttribute("aria-valuetext", `${noun} ${this.#at} of ${count}`);
    text.textContent = `${this.#at} of ${count}`;
    const now = this.#window ?? this.#usual;
    window.hidden = !now;
    reset.hidden = !this.#window;
    if (!now) return;
    const shown = isRendered ? [now.centre, now.width] : [200 * (1 - now.centre), 100 / now.width];
    [centre, width].forEach((input, n) => {
      if (input !== document.activeElement) input.value = String(rounded(shown[n]));
    });
  }

  /** From what the fields say: of previews, percent of light and of contrast. */
  #asWindow(first, second) {
    if (this.#source.isRendered) return { centre: first, width: second };
    return { centre: 1 - first / 200, width: 100 / second };
  }

  #drag(frame) {
    frame.classList.add("windowing");
    frame.addEventListener("pointerdown", (event) => {
      const start = this.#window ?? this.#usual;
      // While a part is being marked, dragging marks.
      if (!start || event.button !== 0 || frame.classList.contains("cropping")) return;
      event.preventDefault();
      frame.setPointerCapture(event.pointerId);
      const from = [event.clientX, event.clientY];
      const move = ({ clientX, clientY }) => {
        const width = start.width * Math.exp((clientX - from[0]) * STEP);
        const centre = start.centre + (clientY - from[1]) * STEP * start.width;
        this.#set({ centre, width: Math.max(width, LEAST_WIDTH) });
      };
      const end = () => {
        frame.removeEventListener("pointermove", move);
        for (const name of ENDS) frame.removeEventListener(name, end);
      };
      frame.addEventListener("pointermove", move);
      for (const name of ENDS) frame.addEventListener(name, end);
    });
    frame.addEventListener("dblclick", () => this.#reset());
  }
}

const ENDS = ["pointerup", "pointercancel", "lostpointercapture"];

/** What in CSS makes of a picture in one window the picture in another, as far as it has bits. */
function filterOf(usual, window) {
  if (!usual || !window) return "";
  // A shade s stands for the value centre + (s - 0.5) width, which the other window shows as
  // slope * s + shift. brightness(b) contrast(k) makes k b s + (1 - k) / 2 of it.
  const slope = usual.width / window.width;
  const shift = (usual.centre - window.centre) / window.width + 0.5 - slope / 2;
  const contrast = Math.max(1 - 2 * shift, 0.02);
  return `brightness(${(slope / contrast).toFixed(4)}) contrast(${contrast.toFixed(4)})`;
}

const rounded = (number) => Number(number.toPrecision(4));

function free(url) {
  if (url?.startsWith("blob:")) URL.revokeObjectURL(url);
}
