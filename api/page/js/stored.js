// Shows the stored images, page by page. Users can start a search from each of them.

import { announce, byId } from "./dom.js";
import { callJson } from "./server.js";
import { counted } from "./words.js";
import { storedCards } from "./results.js";

const PAGE = 24;

/**
 * Shows a page of stored images. It replaces the images shown, or follows them.
 * @param {{filter: object|undefined, cursor: string|null, signal: AbortSignal}} which
 * @param {{onStart: (id: string) => void, onMore: (cursor: string) => void}} told
 * @returns {Promise<number>} how many images are shown now. Throws Problem.
 */
export async function showStored({ filter, cursor, signal }, { onStart, onMore }) {
  const query = new URLSearchParams({ limit: PAGE });
  if (cursor) query.set("cursor", cursor);
  if (filter) query.set("filter", JSON.stringify(filter));
  const page = await callJson(`/v1/images?${query}`, { signal });
  signal.throwIfAborted();

  const grid = byId("grid");
  const before = cursor ? grid.children.length : 0;
  const cards = storedCards(page.images, before, onStart);
  if (!cursor) grid.replaceChildren();
  grid.append(...cards);
  if (cursor) cards[0]?.querySelector("button").focus();
  byId("neighbours").hidden = true;

  const shown = grid.children.length;
  byId("found-title").textContent = "Stored images";
  byId("found-note").textContent = shown ? "Choose one to start from" : "";
  byId("more").hidden = !page.cursor;
  byId("more").onclick = () => onMore(page.cursor);
  announce(`${counted(shown, "stored image")} shown`);
  return shown;
}
