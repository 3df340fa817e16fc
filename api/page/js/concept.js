// Words beside the searched image, and a slider between the two: a search by concept.

import { byId } from "./dom.js";
import { isMixable } from "./search.js";

/** @param {(change: object) => void} go */
export function installConcept(go) {
  byId("concept").addEventListener("submit", (event) => {
    event.preventDefault();
    go({ words: byId("concept-words").value.trim() || null, near: false });
  });
  const weight = byId("concept-weight");
  weight.addEventListener("input", drawWeight);
  weight.addEventListener("change", () => go({ weight: Number(weight.value) / 100 }));
}

/**
 * @param {import("./address.js").State} state
 * @param {{searches_text: boolean}|null} known
 */
export function showConcept(state, known) {
  byId("concept").hidden = !(known?.searches_text && isMixable(state));
  const words = byId("concept-words");
  if (words !== document.activeElement || state.words) words.value = state.words ?? "";
  byId("concept-mix").hidden = !state.words;
  byId("concept-weight").value = String(Math.round(state.weight * 100));
  drawWeight();
}

function drawWeight() {
  const weight = byId("concept-weight");
  const text = `${100 - weight.value} % image, ${weight.value} % words`;
  weight.setAttribute("aria-valuetext", text);
  byId("concept-told").textContent = text;
}
