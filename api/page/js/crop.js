// Marks a part of the query image: by dragging, with arrow keys, or in percent.

import { h } from "./dom.js";
import { MIDDLE, between, fitted, moved, resized } from "./rectangle.js";

/** @typedef {import("./address.js").Crop} Crop */

const HANDLES = ["nw", "n", "ne", "e", "se", "s", "sw", "w"];
const STEP = 0.02;
const ARROWS = {
  ArrowLeft: [-STEP, 0],
  ArrowRight: [STEP, 0],
  ArrowUp: [0, -STEP],
  ArrowDown: [0, STEP],
};

/** In milliseconds: the part is searched when no key was pressed for this long. */
const REST = 600;

// As a fraction of the image: a shorter drag is a slip of the finger.
const SLIP = 0.02;

/**
 * Puts the tool on top of an image.
 * @param {HTMLElement} frame contains the image and nothing else
 * @param {HTMLElement} tools receives the buttons and numbers
 * @param {{crop: Crop|null, onCrop: (crop: Crop|null) => void}} options
 */
export function installCrop(frame, tools, { crop: given, onCrop }) {
  let crop = given && fitted(given);
  let active = false;
  let resting = 0;

  const box = h("div", { class: "crop-box", role: "group", "aria-label": "Marked part" });
  box.append(
    ...HANDLES.map((handle) => h("span", { class: `handle ${handle}`, dataset: { handle } })),
  );
  const numbers = ["left", "top", "width", "height"].map((side) =>
    h("input", {
      type: "number",
      min: 0,
      max: 100,
      step: 1,
      dataset: { side },
      onchange: fromNumbers,
    }),
  );
  const exact = h(
    "fieldset",
    { class: "exact" },
    h("legend", {}, "Marked part, in % of the image"),
    numbers.map((input) => h("label", {}, h("span", {}, input.dataset.side), input)),
  );
  const toggle = h(
    "button",
    {
      "aria-pressed": "false",
      title: "Compare this part of the image only",
      onclick: () => activate(!active),
    },
    "Mark a part",
  );
  const whole = h("button", { onclick: () => change(null, 0) }, "Whole image");
  const hint = h(
    "p",
    { class: "quiet hint" },
    "Drag on the image. With keys: arrows move the part, Shift and arrows resize it.",
  );

  frame.append(box);
  tools.replaceChildren(h("div", { class: "buttons" }, toggle, whole), hint, exact);
  frame.addEventListener("pointerdown", drag);
  box.addEventListener("keydown", onArrow);
  draw();

  function activate(on) {
    active = on;
    if (on && !crop) crop = MIDDLE;
    draw();
    if (on) box.focus({ preventScroll: true });
  }

  /** Shows a crop, and searches it when nothing has changed for `rest` milliseconds. */
  function change(next, rest) {
    crop = next;
    draw();
    clearTimeout(resting);
    resting = setTimeout(() => frame.isConnected && onCrop(crop), rest);
  }

  function draw() {
    frame.classList.toggle("cropping", active);
    box.hidden = !crop;
    toggle.setAttribute("aria-pressed", String(active));
    whole.hidden = !crop;
    exact.hidden = hint.hidden = !active;
    if (active) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
    if (!crop) return;
    for (const input of numbers) {
      const percent = Math.round(crop[input.dataset.side] * 100);
      input.value = percent;
      box.style[input.dataset.side] = `${crop[input.dataset.side] * 100}%`;
    }
  }

  function fromNumbers() {
    const given = Object.fromEntries(
      numbers.map((input) => [input.dataset.side, input.value / 100]),
    );
    change(fitted(given), REST);
  }

  function onArrow(event) {
    const arrow = ARROWS[event.key];
    if (!arrow || !crop) return;
    event.preventDefault();
    change(event.shiftKey ? resized(crop, "se", ...arrow) : moved(crop, ...arrow), REST);
  }

  function drag(event) {
    if (!active || event.button !== 0) return;
    event.preventDefault();
    const start = at(event);
    const before = crop;
    const handle = event.target.dataset.handle;
    const inside = event.target === box;
    frame.setPointerCapture(event.pointerId);
    const follow = (e) => {
      const { x, y } = at(e);
      const [dx, dy] = [x - start.x, y - start.y];
      if (handle) crop = resized(before, handle, dx, dy);
      else if (inside) crop = moved(before, dx, dy);
      else if (Math.hypot(dx, dy) > SLIP) crop = between(start.x, start.y, x, y);
      draw();
    };
    const end = () => {
      frame.removeEventListener("pointermove", follow);
      frame.removeEventListener("pointerup", end);
      frame.removeEventListener("pointercancel", end);
      if (crop !== before) change(crop, 0);
    };
    frame.addEventListener("pointermove", follow);
    frame.addEventListener("pointerup", end);
    frame.addEventListener("pointercancel", end);
  }

  function at(event) {
    const { left, top, width, height } = frame.getBoundingClientRect();
    return { x: (event.clientX - left) / width, y: (event.clientY - top) / height };
  }
}
