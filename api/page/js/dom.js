// Builds elements, never from HTML strings: whatever the api sends stays text.

/** @param {string} id @returns {any} the element of index.html with this id */
export const byId = (id) => document.getElementById(id);

/**
 * Creates an element. `on…` properties are listeners, and `dataset` is an object. true and false
 * switch an attribute on and off; null omits it.
 * @param {string} tag
 * @param {Object<string, any>} [properties]
 * @param {...(Node|string|null|undefined|false)} children
 * @returns {any}
 */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "dataset") Object.assign(element.dataset, value);
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, String(value));
  }
  element.append(...children.flat().filter((child) => child != null && child !== false));
  return element;
}

/**
 * Replaces the content of an element. The focus stays on the element with the same `data-key`:
 * redrawing a list must not throw a keyboard user back to the top.
 * @param {Element} parent
 * @param {...(Node|string|null|undefined|false)} children
 */
export function fill(parent, ...children) {
  const focused = document.activeElement;
  const key = parent.contains(focused) ? focused?.dataset.key : undefined;
  parent.replaceChildren(...children.flat().filter((child) => child != null && child !== false));
  if (key === undefined || parent.contains(document.activeElement)) return;
  const again = [...parent.querySelectorAll("[data-key]")].find((e) => e.dataset.key === key);
  again?.focus({ preventScroll: true });
}

/** Tells screen readers something, without moving the focus. @param {string} text */
export function announce(text) {
  byId("status").textContent = text;
}

/**
 * Shows beside a field what is wrong with it, or clears that.
 * @param {string} place the id of the element for the text, without its ending `-fault`
 * @param {string} [text]
 */
export function showFault(place, text) {
  const fault = byId(`${place}-fault`);
  fault.textContent = text ?? "";
  fault.hidden = !text;
  for (const field of document.querySelectorAll(`[aria-describedby~="${place}-fault"]`)) {
    field.setAttribute("aria-invalid", String(Boolean(text)));
  }
}

/**
 * Shows a number in a field, unless somebody is typing there.
 * @param {HTMLInputElement} input
 * @param {number|null} value
 */
export function putNumber(input, value) {
  const isTyped = input === document.activeElement && input.value !== (input.dataset.shown ?? "");
  if (isTyped) return;
  input.value = value === null || Number.isNaN(value) ? "" : String(value);
  input.dataset.shown = input.value;
}

/**
 * Calls `take` with a completed input: null for an empty one, NaN if it is not a number.
 * @param {HTMLInputElement} input
 * @param {(value: number|null) => void} take
 */
export function onNumber(input, take) {
  input.addEventListener("change", () => {
    input.dataset.shown = input.value;
    if (input.value !== "") take(Number(input.value));
    else take(input.validity.badInput ? NaN : null);
  });
}

/** Whether an event comes from a field that takes text. @param {Event} event */
export const isTyping = (event) =>
  event.target instanceof Element && event.target.closest("input, select, textarea") !== null;
