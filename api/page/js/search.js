// Turns the state into the api's query, and the query into results.

import { spread } from "./dicom.js";
import { groupOf, isWhole } from "./series.js";
import { Problem, call, pause } from "./server.js";

// The number of images fetched for each group; the card says "or more" if there could be others.
export const GROUP_SIZE = 21;

// Near-duplicates are the same photograph, saved again, slightly cropped or brightened. The bound is
// NEAR_BITS of pipeline/images/hashes.py, which was measured.
export const NEAR_BITS = 40;
export const NEAR_SIMILARITY = 0.95;

/** In seconds: how long the api may delay the first answer, and each later one. */
const FIRST_WAIT = 3;
const NEXT_WAIT = 20;

/**
 * @param {import("./address.js").State} state
 * @returns {object|undefined} Qdrant's filter JSON; undefined when nothing is filtered
 */
export function filterOf({ choices, ranges }) {
  const must = [];
  const mustNot = [];
  for (const [key, { only, not }] of Object.entries(choices)) {
    if (only.length) must.push({ key, match: matching(only) });
    if (not.length) mustNot.push({ key, match: matching(not) });
  }
  for (const [key, { least, most }] of Object.entries(ranges)) {
    const range = { ...(least !== null && { gte: least }), ...(most !== null && { lte: most }) };
    if (Object.keys(range).length) must.push({ key, range });
  }
  if (!must.length && !mustNot.length) return undefined;
  return { ...(must.length && { must }), ...(mustNot.length && { must_not: mustNot }) };
}

// Qdrant accepts lists of strings and of integers; a boolean must stand alone.
const matching = (values) => (values.length === 1 ? { value: values[0] } : { any: values });

/** Whether the state names anything to search for. @param {import("./address.js").State} state */
export const isSearch = ({ start, like, unlike }) => Boolean(start || like.length || unlike.length);

/** Whether it is known how close results are: where the search starts from one image. */
export function isMeasured(state) {
  const { start, like, unlike } = state;
  if (state.words && isMixable(state)) return false;
  if (isCombined(state)) return !start && like.length === 1 && !unlike.length;
  return start?.kind === "stored" || (start?.kind === "picture" && !isWhole(state));
}

/** Whether examples are combined, so that neither crop nor near-duplicates apply. */
export const isCombined = ({ like, unlike }) => like.length + unlike.length > 0;

/**
 * Whether the searched image and its lesion are no results. Words have neither, and what is nearly
 * the same image is most often of the same lesion.
 * @param {import("./address.js").State} state
 */
export const leavesOutSame = (state) => hasImage(state) && !state.same && !isNear(state);

/** Whether the search starts from images. @param {import("./address.js").State} state */
export const hasImage = ({ start, like }) =>
  like.length > 0 || (Boolean(start) && start.kind !== "text");

const isNear = (state) => state.near && !isCombined(state);

/** Whether words can be added: to an image, or to marked ones, but not to a series as a whole. */
export const isMixable = (state) => hasImage(state) && !isWhole(state);

/**
 * @param {import("./address.js").State} state a state without faults
 * @returns {object} the body of POST /v1/searches, without an own image, which travels beside it
 */
export function queryOf(state) {
  const { start, like, unlike, crop, near, threshold } = state;
  const group = groupOf(state);
  const combined = isCombined(state);
  const query = { limit: state.limit };
  const positive = start?.kind === "stored" && combined ? [start.id, ...like] : like;
  if (start?.kind === "stored" && !combined) query.image_id = start.id;
  if (start?.kind === "text" && !combined) query.text = start.text;
  if (start?.kind === "collected" && !combined) query[start.by] = start.keys;
  if (start?.kind === "picture" && isWhole(state)) query.strategy = "best_match";
  if (state.words && isMixable(state)) {
    query.text = state.words;
    query.text_weight = state.weight;
  }
  if (positive.length) query.positive = positive;
  if (unlike.length) query.negative = unlike;
  if (crop && !combined) query.crop = crop;
  const filter = filterOf(state);
  if (filter) query.filter = filter;
  if (threshold !== null) query.score_threshold = threshold;
  if (state.closeness !== null && isMeasured(state)) query.min_closeness = state.closeness;
  if (leavesOutSame(state)) query.exclude_same_lesion = true;
  if (near && !combined) {
    query.max_hash_distance = NEAR_BITS;
    query.score_threshold ??= NEAR_SIMILARITY;
  } else if (group) {
    Object.assign(query, { group_by: group, group_size: GROUP_SIZE });
  }
  return query;
}

/**
 * The files of a picture that the search sends, and which frame of them. Of several files the
 * frame is the number of the file.
 * @param {import("./address.js").State} state
 * @param {import("./picture.js").Picture|null} picture
 * @returns {{files: File[], frame?: number}}
 */
export function sentOf(state, picture) {
  if (state.start?.kind !== "picture" || !picture) return { files: [] };
  const { files, isDicom } = picture;
  if (isDicom && isWhole(state)) return { files: spread(files) };
  if (files.length > 1) return { files: [files[middle(state.frame, files.length) - 1]] };
  return { files, ...(isDicom && state.frame && { frame: state.frame }) };
}

/** The number of a frame, counted from 1: the one that was chosen, else the middle one. */
export const middle = (chosen, count) => Math.min(chosen ?? Math.floor((count + 1) / 2), count);

/**
 * @param {object} query
 * @param {File[]} files
 * @param {{signal: AbortSignal, onWaiting: () => void}} options `onWaiting` is called once if the
 *   first response comes without results
 * @returns {Promise<object>} the answer, with its hits as `results`. Throws Problem.
 */
export const search = (query, files, options) => answered("/v1/searches", query, files, options);

/**
 * The finished answer of a call that is answered in time or polled for.
 * @param {string} path
 * @param {object} query
 * @param {File[]} files
 * @param {{signal: AbortSignal, onWaiting: () => void}} options as of `search`
 * @returns {Promise<any>} Throws Problem.
 */
export async function answered(path, query, files, { signal, onWaiting }) {
  const first = await call(path, request(query, files, signal));
  let found = await first.json();
  if (!isFinished(found)) onWaiting();
  while (!isFinished(found)) found = await poll(path, found, signal);
  if (found.state === "failed") throw new Problem(found.error);
  return found;
}

/** The current state of the search. It survives a while in which the api is unavailable. */
async function poll(path, found, signal) {
  try {
    const headers = { Prefer: `wait=${NEXT_WAIT}` };
    return await (await call(`${path}/${found.id}`, { headers, signal })).json();
  } catch (error) {
    if (!(error instanceof Problem && error.passing)) throw error;
    await pause(1500, signal);
    return found;
  }
}

function request(query, files, signal) {
  const headers = { Prefer: `wait=${FIRST_WAIT}` };
  if (!files.length) {
    headers["Content-Type"] = "application/json";
    return { method: "POST", headers, body: JSON.stringify(query), signal };
  }
  const body = new FormData();
  body.append("query", JSON.stringify(query));
  // Do not send the file's name: it can be a patient's, and nobody needs it.
  for (const file of files) body.append("image", file, "picture");
  return { method: "POST", headers, body, signal };
}

const isFinished = ({ state }) => state === "succeeded" || state === "failed";
