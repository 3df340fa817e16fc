// Finds what makes a search impossible, before sending it. Each fault has a sentence and a place.

import { fieldLabel } from "./words.js";

export const MOST_RESULTS = 40;

// Rounding can move the edge of a marked part by this much.
const SLACK = 1e-3;

/**
 * @param {import("./address.js").State} state
 * @param {{searches_text: boolean}|null} collection null until it is loaded
 * @returns {import("./words.js").Fault[]}
 */
export function faultsOf(state, collection) {
  const found = [];
  const fault = (wrong, place, text) => wrong && found.push({ place, text });
  const { limit, threshold, closeness, crop, start } = state;
  fault(
    !Number.isInteger(limit) || limit < 1 || limit > MOST_RESULTS,
    "limit",
    `Choose between 1 and ${MOST_RESULTS} results.`,
  );
  fault(
    threshold !== null && !(threshold >= -1 && threshold <= 1),
    "threshold",
    "Similarity lies between −1 and 1; 1 means the same image.",
  );
  fault(
    closeness !== null && !(closeness >= 0 && closeness <= 1),
    "closeness",
    "A level lies between 0 and 1: the part of the neighbours that agreed.",
  );
  fault(
    crop && !isInside(crop),
    "crop",
    "The marked part reaches outside the image. Mark it again.",
  );
  fault(
    start?.kind === "text" && collection?.searches_text === false,
    "message",
    "This server compares images only; it cannot search by words.",
  );
  fault(
    state.words && collection?.searches_text === false,
    "message",
    "This server compares images only; it cannot search by words.",
  );
  fault(
    state.words && !(state.weight >= 0 && state.weight <= 1),
    "message",
    "Words count between 0 (the image alone) and 1 (the words alone).",
  );
  fault(
    state.words && state.near,
    "options",
    "Near-duplicates are searched without words. Remove one of the two.",
  );
  fault(
    state.unlike.length && !state.like.length && !start,
    "message",
    "Mark at least one image as “more like this”, or choose an image to start from.",
  );
  fault(
    state.like.some((id) => state.unlike.includes(id)),
    "message",
    "One image is marked both “more like this” and “unlike this”. Remove one of the marks.",
  );
  return [...found, ...filterFaults(state)];
}

function filterFaults({ choices, ranges }) {
  const found = [];
  for (const [field, { only, not }] of Object.entries(choices)) {
    if (only.length && only.every((value) => not.includes(value))) {
      found.push(`${fieldLabel(field)}: the same value is both required and excluded.`);
    }
  }
  for (const [field, { least, most }] of Object.entries(ranges)) {
    if (Number.isNaN(least) || Number.isNaN(most)) {
      found.push(`${fieldLabel(field)}: a range needs numbers.`);
    } else if (least !== null && most !== null && least > most) {
      found.push(`${fieldLabel(field)}: the range is empty, since ${least} is above ${most}.`);
    }
  }
  return found.map((text) => ({ place: "filters", text }));
}

function isInside({ left, top, width, height }) {
  const numbers = [left, top, width, height].every(Number.isFinite);
  const drawn = width > 0 && height > 0 && left >= 0 && top >= 0;
  return numbers && drawn && left + width <= 1 + SLACK && top + height <= 1 + SLACK;
}
