// What is held, page by page, each picture a place to start from.

import { announce, byId } from "./dom.js";
import { callJson } from "./server.js";
import { counted } from "./words.js";
import { heldCards } from "./results.js";

const PAGE = 24;

/**
 * A page of held images, in place of the pictures that are shown or after them.
 * @param {{filter: object|undefined, cursor: string|null, signal: AbortSignal}} which
 * @param {{onStart: (id: string) => void, onMore: (cursor: string) => void}} told
 * @returns {Promise<number>} how many pictures are shown now. Throws Problem.
 */
export async function showHeld({ filter, cursor, signal }, { onStart, onMore }) {
  const query = new URLSearchParams({ limit: PAGE });
  if (cursor) query.set("cursor", cursor);
  if (filter) query.set("filter", JSON.stringify(filter));
  const page = await callJson(`/v1/images?${query}`, { signal });
  signal.throwIfAborted();

  const grid = byId("grid");
  const before = cursor ? grid.children.length : 0;
  const cards = heldCards(page.images, before, onStart);
  if (!cursor) grid.replaceChildren();
  grid.append(...cards);
  if (cursor) cards[0]?.querySelector("button").focus();
  byId("neighbours").hidden = true;

  const shown = grid.children.length;
  byId("found-title").textContent = "Held images";
  byId("found-note").textContent = shown ? "Choose one to start from" : "";
  byId("more").hidden = !page.cursor;
  byId("more").onclick = () => onMore(page.cursor);
  announce(`${counted(shown, "held image")} shown`);
  return shown;
}
