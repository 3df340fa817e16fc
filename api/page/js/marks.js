// Collects "more like this" and "unlike this" marks on the results, to search with all of them. A
// search after every mark would remove the next image to mark from the doctor's sight.

import { byId, fill, h } from "./dom.js";
import { counted } from "./words.js";

export class Marks {
  #marks = new Map();
  #onChange;

  /** @param {() => void} onChange */
  constructor(onChange) {
    this.#onChange = onChange;
  }

  /** @param {string} id @returns {"like"|"unlike"|undefined} */
  of(id) {
    return this.#marks.get(id);
  }

  /** @param {"like"|"unlike"} kind @returns {string[]} */
  ids(kind) {
    return [...this.#marks].filter(([, given]) => given === kind).map(([id]) => id);
  }

  /** @param {string} id @param {"like"|"unlike"} kind */
  toggle(id, kind) {
    if (this.#marks.get(id) === kind) this.#marks.delete(id);
    else this.#marks.set(id, kind);
    this.#onChange();
  }

  clear() {
    this.#marks.clear();
    this.#onChange();
  }
}

/**
 * The bar above the results that searches with the marks.
 * @param {Marks} marks
 * @param {() => void} onSearch
 */
export function drawMarks(marks, onSearch) {
  const bar = byId("marks");
  const [like, unlike] = [marks.ids("like").length, marks.ids("unlike").length];
  bar.hidden = like + unlike === 0;
  const said = [like && `${like} more like this`, unlike && `${unlike} unlike`]
    .filter(Boolean)
    .join(", ");
  fill(
    bar,
    h("span", { role: "status" }, said),
    h(
      "button",
      { class: "primary", onclick: onSearch },
      `Search with ${counted(like + unlike, "mark")}`,
    ),
    h("button", { onclick: () => marks.clear() }, "Clear"),
  );
}
