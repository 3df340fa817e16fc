// Puts a job's totals into words, and lists the possible actions.

import { counted, duration, valueLabel } from "./words.js";

const STATES = {
  planning: "Counting images",
  running: "Running",
  paused: "Paused",
  succeeded: "Done",
  completed_with_rejections: "Done, some rejected",
  failed: "Failed",
  cancelled: "Cancelled",
};

const ACTIONS = {
  planning: ["pause", "cancel"],
  running: ["pause", "cancel"],
  paused: ["resume", "cancel"],
  succeeded: [], // the api refuses it: nothing is left to do
  completed_with_rejections: ["retry"],
  failed: ["retry"],
  cancelled: ["retry"],
};

/**
 * @typedef {object} Job as the api sends it; `updated`, `skipped` (by kind) and `dry_run` are missing
 *   if the api is older
 */

/** @param {Job} job @returns {string} */
export const stateWord = (job) => STATES[job.state] ?? job.state;

/** @param {Job} job @returns {string[]} */
export const actionsOf = (job) =>
  // The request of a deletion is forgotten when it has ended: this page offers no second run.
  isDeletion(job) && job.final ? [] : (ACTIONS[job.state] ?? []);

/** @param {Job} job @returns {boolean} */
export const isFinal = (job) => job.final;

/** Jobs that bring no images. */
const OTHERS = {
  delete: "Deletion",
  evaluate: "Evaluation",
  compare: "Comparison of encoders",
  label_audit: "Audit of labels",
};

const isDeletion = (job) => job.operation === "delete";

/** @param {Job} job @returns {string} */
export const jobName = (job) => {
  if (OTHERS[job.operation]) return OTHERS[job.operation];
  return job.dry_run ? `${sourceName(job)}, trial run` : sourceName(job);
};

const sourceName = (job) => {
  if (!job.dataset) return job.source === "upload" ? "Uploaded images" : `Images of a ${job.source}`;
  // The last part of its path distinguishes a folder from others.
  const name = job.dataset.startsWith("/")
    ? job.dataset.split("/").filter(Boolean).at(-1)
    : job.dataset;
  return job.split && job.split !== "train" ? `${name}, ${job.split}` : name;
};

/** @param {Job} job @returns {number} rows with a known outcome */
export const done = (job) => Object.values(job.counts).reduce((sum, count) => sum + count, 0);

/** @param {Job} job @returns {string} such as "120 of 500 images" */
export function amount(job) {
  if (job.total === null) return isFinal(job) ? "nothing was counted" : "not counted yet";
  return `${done(job).toLocaleString("en")} of ${counted(job.total, "image")}`;
}

/** @param {Job} job @returns {string} speed and time left, if they are known */
export function pace(job) {
  if (job.state !== "running") return "";
  const speed = job.images_per_second
    ? `${job.images_per_second.toFixed(1)} images a second`
    : "";
  const left = duration(job.eta_seconds);
  return [speed, left && `about ${left} left`].filter(Boolean).join(", ");
}

/** @param {Job} job @returns {string} such as "2 added, 1 already stored, 0 rejected" */
export function totals(job) {
  if (isDeletion(job)) return `${number(done(job))} deleted`;
  if (OTHERS[job.operation]) return `${number(done(job))} compared`;
  const added = job.dry_run ? "would be added" : "added";
  return [
    `${number(job.embedded)} ${added}`,
    job.updated > 0 && `${number(job.updated)} with new metadata`,
    `${number(job.unchanged)} already stored`,
    `${number(job.rejected)} rejected`,
    job.quarantined > 0 && `${number(job.quarantined)} in quarantine`,
  ]
    .filter(Boolean)
    .join(", ");
}

/** How many files were skipped, by kind. @param {Job} job @returns {[string, number][]} */
export const skipped = (job) => Object.entries(job.skipped ?? {}).filter(([, count]) => count > 0);

/** @param {Job} job @returns {string|null} such as "3 files skipped: 2 hidden, 1 table" */
export function skippedLine(job) {
  const kinds = skipped(job);
  if (!kinds.length) return null;
  const all = kinds.reduce((sum, [, count]) => sum + count, 0);
  const listed = kinds.map(([kind, count]) => `${number(count)} ${valueLabel(kind)}`);
  return `${counted(all, "file")} skipped: ${listed.join(", ")}`;
}

/** The number that the list and the job itself show. @param {Job} job @returns {string} */
export const progress = (job) =>
  job.rejected > 0 ? `${amount(job)}, ${number(job.rejected)} rejected` : amount(job);

/** Why the job waits or has failed, in the api's own words. @param {Job} job @returns {string|null} */
export function trouble(job) {
  const said = job.error?.detail ?? "";
  if (job.error && isDeletion(job))
    return `Nothing more was deleted. ${said} Ask for the deletion again; if it fails once more, tell your administrator.`;
  if (job.error?.status === 422) return `The data set could not be read. ${said}`;
  if (job.error)
    return `The job could not go on. ${said} Run it again; if it fails once more, tell your administrator.`;
  if (job.notice && !isFinal(job))
    return `The job waits for a part of Kindred that is not available, and continues by itself. ${job.notice}`;
  return null;
}

const number = (count) => count.toLocaleString("en");
