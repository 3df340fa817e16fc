// Says when the images of a job lie unlike the collection, by device and site.

import { h } from "./dom.js";
import { Problem, callJson, pause } from "./server.js";
import { fieldLabel } from "./words.js";

/** In milliseconds, between two looks at what is not known yet. */
const POLL_INTERVAL = 2000;
const POLLS = 20;

/**
 * @param {object} job as the api sends it
 * @param {AbortSignal} signal
 * @returns {Promise<HTMLElement|null>} null if there is nothing to say
 */
export async function driftOf(job, signal) {
  if (job.operation !== "ingest" || job.dry_run) return null;
  try {
    for (let polls = 0; polls < POLLS; polls += 1) {
      const found = await callJson(`/v1/jobs/${encodeURIComponent(job.id)}/drift`, { signal });
      if (found.state !== "pending") return said(found.groups.filter((each) => each.drifted));
      await pause(POLL_INTERVAL, signal);
    }
  } catch (error) {
    if (!(error instanceof Problem) && error.name !== "AbortError") throw error;
  }
  return null;
}

const said = (groups) =>
  groups.length
    ? h(
        "section",
        { class: "caution", id: "drift", "aria-label": "Unlike the collection" },
        groups.map((each) => h("p", {}, sentence(each))),
      )
    : null;

/** @param {object} group @returns {string} */
function sentence(group) {
  const values = Object.entries(group.values).map(([name, value]) => `${fieldLabel(name)} ${value}`);
  const what = values.length ? ` of ${values.join(", ")}` : "";
  const whose = group.own ? "earlier images of the same kind" : "its own images";
  return `${group.beyond} of the ${group.sampled} images sampled${what} lie farther from the collection than 95 % of ${whose} do (5 % would be usual): a new camera, a broken scanner, or another body part?`;
}
