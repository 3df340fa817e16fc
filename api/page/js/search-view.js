// The search view: runs the search that the address names, and shows the results.

import { Marks, drawMarks } from "./marks.js";
import { Problem, call, callJson, pause } from "./server.js";
import { drawAbout } from "./about.js";
import { drawClosenessNote, drawNoCloseMatch } from "./closeness.js";
import { announce, byId } from "./dom.js";
import { counted, explain, fieldNoun } from "./words.js";
import { drawFaults, drawPanel } from "./panel.js";
import { drawNeighbours } from "./neighbours.js";
import { drawResults, refreshMarks } from "./results.js";
import { emptyMessage, faultMessage, missingMessage, say, waitingMessage } from "./messages.js";
import { faultsOf } from "./check.js";
import { fetchCounts, fetchFacets } from "./filters.js";
import { filterOf, isSearch, leavesOutSame, queryOf, search, sentOf } from "./search.js";
import { groupOf } from "./series.js";
import { lesionNoun } from "./options.js";
import { openCompare } from "./compare.js";
import { searchedPicture } from "./query-panel.js";
import { showStored } from "./stored.js";

/** In milliseconds: after this time without an answer, the page checks that a worker is ready. */
const PATIENCE = 2500;

/** What the panel shows. `known` describes the whole collection, and is null until it is loaded. */
const shown = { state: null, picture: null, known: null, counts: null, faults: [], found: 0 };

/** Whether something is missing: it is still loading, or a service was unavailable. */
let incomplete = false;

let running = new AbortController();
let go = () => {};
let onUnavailable = () => {};

const marks = new Marks(() => {
  refreshMarks(marks);
  drawMarks(marks, searchMarks);
});

/**
 * @param {{go: (change: object, options?: object) => void, onUnavailable: (problem: Problem) => void}} page
 *   `onUnavailable` is called when only waiting can help; it shows the view again afterwards
 */
export function installSearchView(page) {
  ({ go, onUnavailable } = page);
}

/** Forgets the collection's facts because a job has changed them. */
export function forgetCollection() {
  shown.known = null;
}

/** @returns {boolean} */
export const isIncomplete = () => incomplete;

/**
 * @param {import("./address.js").State} state
 * @param {import("./picture.js").Picture|null} picture
 */
export async function showSearch(state, picture) {
  running.abort();
  running = new AbortController();
  const { signal } = running;
  incomplete = true;
  Object.assign(shown, { state, picture, counts: null, faults: faultsOf(state, shown.known), found: 0 });
  marks.clear();
  drawPanel(shown, go);
  checkWorkers(signal);
  try {
    const [isPossible] = await Promise.all([run(signal), shown.known ?? loadCollection()]);
    signal.throwIfAborted();
    incomplete = false;
    const isSilent = byId("message").hidden && byId("grid").childElementCount === 0;
    if (isSilent) say(emptyMessage(state, shown.known, go));
    if (shown.found) byId("found-note").textContent = noteOf(shown);
    byId("untrained").hidden = !(shown.known.untrained && isSearch(state));
    drawPanel(shown, go);
    if (!isPossible) return;
    shown.counts = (await fetchCounts(state, signal)).counts;
    drawPanel(shown, go);
  } catch (error) {
    handleError(error, signal);
  }
}

async function loadCollection() {
  const [collection, facets] = await Promise.all([callJson("/v1/collection"), fetchFacets()]);
  shown.known = { ...collection, ...facets };
  byId("held-count").textContent = `${counted(facets.count, "image")} stored`;
  drawAbout(collection);
}

/** @returns {Promise<boolean>} whether the search was possible. Throws Problem. */
async function run(signal) {
  const { state, picture, faults } = shown;
  clearMessages();
  if (faults.length) return refuse(faults);
  if (state.start?.kind === "picture" && !picture) {
    clearPictures();
    say(missingMessage(go));
    return true;
  }
  byId("grid").setAttribute("aria-busy", "true");
  byId("found-note").textContent = isSearch(state) ? "Searching…" : "Loading…";
  const query = isSearch(state) ? queryOf(state) : { filter: filterOf(state) };
  try {
    await (isSearch(state) ? runSearch(query, signal) : browse(null, signal));
    return true;
  } catch (error) {
    if (!(error instanceof Problem) || error.passing) throw error;
    return refuse([explain(error, query)]);
  } finally {
    if (!signal.aborted) byId("grid").removeAttribute("aria-busy");
  }
}

async function runSearch(query, signal) {
  const { state, picture } = shown;
  const { files, frame } = sentOf(state, picture);
  const answer = await search(frame ? { ...query, frame } : query, files, { signal, onWaiting: () => sayWaiting(signal) });
  signal.throwIfAborted();
  const { results: hits, closeness: basis, no_close_match: none } = answer;
  const group = groupOf(state);
  shown.found = hits.length;
  const note = noteOf(shown);
  say(null);
  byId("found-title").textContent = state.near ? "Near-duplicates" : "Similar images";
  byId("found-note").textContent = note;
  announce(hits.length ? `${none ? "No close match. " : ""}${note}` : "No images found");
  const all = hits.flatMap((hit) => [hit, ...(hit.others ?? [])]);
  const onOpen = (hit) =>
    openCompare(all, hit, searchedPicture(state, picture), { marks, onSearch: searchFrom, basis });
  drawClosenessNote(hits.length ? basis : undefined);
  drawNoCloseMatch(Boolean(none && hits.length), state.closeness, basis, go);
  drawResults(byId("grid"), hits, { group, onOpen, marks, basis });
  drawNeighbours(byId("neighbours"), hits, group);
}

/** Such as "12 images, the most similar first, without this lesion"; empty if none is found. */
function noteOf({ state, known, found }) {
  if (!found) return "";
  const group = groupOf(state);
  const noun = group ? fieldNoun(group) : "image";
  const without = leavesOutSame(state) ? `, without this ${lesionNoun(known, state)}` : "";
  const many = noun === "series" ? noun : undefined;
  return `${counted(found, noun, many)}, the most similar first${without}`;
}

function browse(cursor, signal) {
  const onMore = (next) => browse(next, signal).catch((error) => handleError(error, signal));
  return showStored(
    { filter: filterOf(shown.state), cursor, signal },
    { onStart: searchFrom, onMore },
  );
}

// --- from the results to the next search ---------------------------------------------------------

function searchFrom(id) {
  const none = { crop: null, frame: null, whole: false, words: null, like: [], unlike: [], same: false };
  go({ ...none, start: { kind: "stored", id } });
  toPictures();
}

function searchMarks() {
  const { state } = shown;
  const marked = new Set([...marks.ids("like"), ...marks.ids("unlike")]);
  const joined = (kind) => [...state[kind].filter((id) => !marked.has(id)), ...marks.ids(kind)];
  const [like, unlike] = [joined("like"), joined("unlike")];
  // Words, and a series as a whole, cannot be combined with images: it continues from the marked.
  const start = ["text", "collected"].includes(state.start?.kind) ? null : state.start;
  go({ start, like, unlike, near: false });
  toPictures();
}

function toPictures() {
  byId("found").focus({ preventScroll: true });
  byId("found").scrollIntoView({ block: "nearest" });
}

// --- messages in place of results ----------------------------------------------------------------

/** Clears the messages. The images stay until the next ones arrive. */
function clearMessages() {
  say(null);
  drawClosenessNote(undefined);
  byId("no-close-match").hidden = true;
  byId("more").hidden = true;
  byId("grid").removeAttribute("aria-busy");
}

function clearPictures() {
  clearMessages();
  byId("grid").replaceChildren();
  byId("neighbours").hidden = true;
  byId("found-title").textContent = "Images";
  byId("found-note").textContent = "";
}

function refuse(faults) {
  shown.faults = faults;
  clearPictures();
  drawFaults(faults);
  say(faultMessage(faults, go));
  announce(faults.map(({ text }) => text).join(" "));
  return false;
}

function handleError(error, signal) {
  if (signal.aborted || error.name === "AbortError") return;
  if (!(error instanceof Problem)) throw error;
  clearPictures();
  if (error.passing) onUnavailable(error);
  else refuse([explain(error)]);
}

/**
 * Reports missing workers early: the api itself waits much longer for one. It asks again and again,
 * since a worker that has just died counts as alive until it has missed some heartbeats.
 */
async function checkWorkers(signal) {
  try {
    for (;;) {
      await pause(PATIENCE, signal);
      if (!incomplete) return;
      await call("/readyz", { signal });
    }
  } catch (error) {
    if (incomplete && error instanceof Problem && error.passing) onUnavailable(error);
  }
}

async function sayWaiting(signal) {
  const isReady = await call("/readyz", { signal }).then(
    () => true,
    () => false,
  );
  if (signal.aborted || !byId("grid").hasAttribute("aria-busy")) return;
  byId("found-note").textContent = "Waiting…";
  say(waitingMessage(isReady));
}
