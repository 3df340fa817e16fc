// A job's account in words, and what can be done to it.

import { counted, duration } from "./words.js";

const STATES = {
  planning: "Being counted",
  running: "Running",
  paused: "Paused",
  succeeded: "Done",
  completed_with_rejections: "Done, some refused",
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
export const actionsOf = (job) => ACTIONS[job.state] ?? [];

/** @param {Job} job @returns {boolean} */
export const isFinal = (job) => !["planning", "running", "paused"].includes(job.state);

/** @param {Job} job @returns {string} */
export const jobName = (job) => {
  if (!job.dataset) return "Uploaded pictures";
  // A folder's last part is what tells it from others.
  const name = job.dataset.startsWith("/")
    ? job.dataset.split("/").filter(Boolean).at(-1)
    : job.dataset;
  return job.split && job.split !== "train" ? `${name}, ${job.split}` : name;
};

/** @param {Job} job @returns {number} rows that are accounted for */
export const done = (job) => job.embedded + job.unchanged + job.rejected;

/** @param {Job} job @returns {string} as in "120 of 500 pictures" */
export function amount(job) {
  if (job.total === null) return isFinal(job) ? "nothing was counted" : "not counted yet";
  return `${done(job).toLocaleString("en")} of ${counted(job.total, "picture")}`;
}

/** @param {Job} job @returns {string} speed and time left, where they are known */
export function pace(job) {
  if (job.state !== "running") return "";
  const speed = job.images_per_second
    ? `${job.images_per_second.toFixed(1)} pictures a second`
    : "";
  const left = duration(job.eta_seconds);
  return [speed, left && `about ${left} left`].filter(Boolean).join(", ");
}

/** @param {Job} job @returns {string} */
export const account = (job) =>
  `${job.embedded.toLocaleString("en")} taken in, ${job.unchanged.toLocaleString("en")} held already, ${job.rejected.toLocaleString("en")} refused`;

/** @param {Job} job @returns {string|null} why it waits or has failed */
export function trouble(job) {
  if (job.error?.status === 422)
    return "The data set could not be read. Check its name, its split and, for a folder, that the server can see it.";
  if (job.error)
    return "The job could not go on. Try it again; if it fails once more, tell who runs Kindred.";
  if (job.notice && !isFinal(job))
    return "The job waits for a part of Kindred that is away, and goes on by itself.";
  return null;
}
