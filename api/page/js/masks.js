// Rectangles over a picture that are to be made black: drawn by dragging, moved and resized with the
// mouse, with keys, or in pixels.

import { announce, fill, h } from "./dom.js";

/** @typedef {{left: number, top: number, width: number, height: number}} Mask whole pixels */

const SIDES = ["left", "top", "width", "height"];
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** In pixels of the picture: the smallest side of a rectangle, and a shorter drag is a slip. */
const LEAST = 4;
/** A press of an arrow moves by this part of the picture's longer side. */
const STEP = 1 / 100;

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

/**
 * @param {HTMLElement} frame contains the picture and nothing else
 * @param {HTMLElement} tools receives the list of rectangles
 * @param {{width: number, height: number, masks: Mask[], onChange: (masks: Mask[]) => void}} given
 */
export function installMasks(frame, tools, { width, height, masks: proposed, onChange }) {
  let masks = proposed.map(inside);
  const step = Math.max(1, Math.round(Math.max(width, height) * STEP));
  const boxes = h("div", { class: "masks" });
  const list = h("ul", { class: "mask-list" });
  const add = h("button", { type: "button", onclick: addOne }, "Add a rectangle");
  const none = h("button", { type: "button", onclick: removeAll }, "Remove all");
  frame.append(boxes);
  tools.replaceChildren(
    h("div", { class: "buttons" }, add, none),
    h(
      "p",
      { class: "quiet" },
      "Drag on the picture to draw a rectangle. With keys: arrows move a rectangle, Shift and arrows resize it, Delete removes it.",
    ),
    list,
  );
  frame.addEventListener("pointerdown", drag);
  changed();

  function changed() {
    draw();
    onChange(masks);
  }

  /** Draws the rectangles, and their numbers; the focus stays where it was. */
  function draw() {
    none.hidden = !masks.length;
    fill(boxes, masks.map(boxOf));
    fill(list, masks.map(numbersOf));
  }

  function boxOf(mask, index) {
    const box = h("div", {
      class: "mask-box",
      role: "group",
      tabindex: 0,
      "aria-label": `Rectangle ${index + 1}: ${spoken(mask)}`,
      dataset: { index, key: `box ${index}` },
      onkeydown: (event) => onKey(event, index),
    });
    box.append(h("span", { class: "handle se", dataset: { handle: "se" } }));
    place(box, mask);
    return box;
  }

  function place(box, mask) {
    box.style.left = `${(mask.left / width) * 100}%`;
    box.style.top = `${(mask.top / height) * 100}%`;
    box.style.width = `${(mask.width / width) * 100}%`;
    box.style.height = `${(mask.height / height) * 100}%`;
  }

  function numbersOf(mask, index) {
    const name = `Rectangle ${index + 1}`;
    const fields = SIDES.map((side) =>
      h(
        "label",
        {},
        h("span", {}, side),
        h("input", {
          type: "number",
          min: 0,
          step: 1,
          value: mask[side],
          dataset: { key: `${side} ${index}` },
          onchange: (event) => change(index, { ...mask, [side]: Number(event.target.value) }),
        }),
      ),
    );
    return h(
      "li",
      {},
      h("fieldset", { class: "exact" }, h("legend", {}, `${name}, in pixels`), fields),
      h(
        "button",
        { type: "button", "aria-label": `Remove ${name.toLowerCase()}`, onclick: () => remove(index) },
        "Remove",
      ),
    );
  }

  function change(index, mask) {
    masks = masks.map((each, at) => (at === index ? inside(mask) : each));
    changed();
  }

  function remove(index) {
    masks = masks.filter((_, at) => at !== index);
    changed();
    announce(`Rectangle ${index + 1} removed`);
    const next = boxes.children[Math.min(index, masks.length - 1)];
    (next ?? add).focus({ preventScroll: true });
  }

  function removeAll() {
    masks = [];
    changed();
    add.focus();
  }

  /** As wide as the picture, at its top: there most machines write names. */
  function addOne() {
    masks = [...masks, inside({ left: 0, top: 0, width, height: Math.round(height / 8) })];
    changed();
    boxes.lastElementChild.focus({ preventScroll: true });
  }

  function onKey(event, index) {
    if (event.key === "Delete" || event.key === "Backspace") {
      event.preventDefault();
      return remove(index);
    }
    const arrow = ARROWS[event.key];
    if (!arrow) return undefined;
    event.preventDefault();
    const [dx, dy] = arrow.map((way) => way * step);
    return change(index, event.shiftKey ? resized(masks[index], dx, dy) : moved(masks[index], dx, dy));
  }

  function drag(event) {
    if (event.button !== 0) return;
    event.preventDefault();
    const box = event.target.closest(".mask-box");
    const start = at(event);
    const before = masks;
    const index = box ? Number(box.dataset.index) : masks.length;
    const resizes = Boolean(event.target.dataset.handle);
    frame.setPointerCapture(event.pointerId);
    const follow = (e) => {
      const { x, y } = at(e);
      const [dx, dy] = [x - start.x, y - start.y];
      if (box) {
        const change = resizes ? resized : moved;
        masks = before.map((each, n) => (n === index ? change(each, dx, dy) : each));
      } else if (Math.abs(dx) > LEAST || Math.abs(dy) > LEAST) {
        masks = [...before, between(start, { x, y })];
      }
      draw();
    };
    const end = () => {
      frame.removeEventListener("pointermove", follow);
      frame.removeEventListener("pointerup", end);
      frame.removeEventListener("pointercancel", end);
      if (masks !== before) changed();
      boxes.children[index]?.focus({ preventScroll: true });
    };
    frame.addEventListener("pointermove", follow);
    frame.addEventListener("pointerup", end);
    frame.addEventListener("pointercancel", end);
  }

  function at(event) {
    const shown = frame.getBoundingClientRect();
    return {
      x: Math.round(((event.clientX - shown.left) / shown.width) * width),
      y: Math.round(((event.clientY - shown.top) / shown.height) * height),
    };
  }

  function between(one, other) {
    const [left, right] = [Math.min(one.x, other.x), Math.max(one.x, other.x)];
    const [top, bottom] = [Math.min(one.y, other.y), Math.max(one.y, other.y)];
    return inside({ left, top, width: right - left, height: bottom - top });
  }

  function moved(mask, dx, dy) {
    return {
      ...mask,
      left: clamp(mask.left + dx, 0, width - mask.width),
      top: clamp(mask.top + dy, 0, height - mask.height),
    };
  }

  function resized(mask, dx, dy) {
    return inside({ ...mask, width: mask.width + dx, height: mask.height + dy });
  }

  /** Whole pixels within the picture, and not too small to be seen. */
  function inside(mask) {
    const left = clamp(Math.round(mask.left || 0), 0, Math.max(0, width - LEAST));
    const top = clamp(Math.round(mask.top || 0), 0, Math.max(0, height - LEAST));
    return {
      left,
      top,
      width: clamp(Math.round(mask.width || 0), Math.min(LEAST, width), width - left),
      height: clamp(Math.round(mask.height || 0), Math.min(LEAST, height), height - top),
    };
  }
}

const spoken = ({ left, top, width, height }) =>
  `${width} by ${height} pixels, ${left} from the left and ${top} from the top`;
