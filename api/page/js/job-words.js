// Puts a job's totals into words, and lists the possible actions.

import { counted, duration } from "./words.js";

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
  succeeded: ["retry"],
  completed_with_rejections: ["retry"],
  failed: ["retry"],
  cancelled: ["retry"],
};

/** @typedef {object} Job as the api sends it */

/** @param {Job} job @returns {string} */
export const stateWord = (job) => STATES[job.state] ?? job.state;

/** @param {Job} job @returns {string[]} */
export const actionsOf = (job) =>
  // The request of a deletion is forgotten when it has ended: this page offers no second run.
  isDeletion(job) && job.final ? [] : (ACTIONS[job.state] ?? []);

/** @param {Job} job @returns {boolean} */
export const isFinal = (job) => job.final;

const isDeletion = (job) => job.operation === "delete";

/** @param {Job} job @returns {string} */
export const jobName = (job) => {
  if (isDeletion(job)) return "Deletion";
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

/** @param {Job} job @returns {string} */
export const totals = (job) =>
  isDeletion(job)
    ? `${done(job).toLocaleString("en")} deleted`
    : `${job.embedded.toLocaleString("en")} added, ${job.unchanged.toLocaleString("en")} already stored, ${job.rejected.toLocaleString("en")} rejected`;

/** @param {Job} job @returns {string|null} why the job waits or has failed */
export function trouble(job) {
  if (job.error && isDeletion(job))
    return "Nothing more was deleted. Ask for the deletion again; if it fails once more, tell your administrator.";
  if (job.error?.status === 422)
    return "The data set could not be read. Check its name, its split and, for a folder, that the server can see it.";
  if (job.error)
    return "The job could not go on. Run it again; if it fails once more, tell your administrator.";
  if (job.notice && !isFinal(job))
    return "The job waits for a part of Kindred that is not available. It continues by itself.";
  return null;
}
