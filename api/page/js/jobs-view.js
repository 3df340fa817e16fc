// The jobs view: forms to start a job, the newest jobs, and the live progress of one.

import { announce, byId, fill, h, showFault } from "./dom.js";
import { Problem, callJson, pause, post } from "./server.js";
import { done, isFinal, jobName, progress, stateWord } from "./job-words.js";
import { onChosen } from "./picture.js";
import { upload } from "./upload.js";
import { followJob } from "./job-detail.js";
import { mayIngest } from "./sign-in.js";
import { NOT_ALLOWED, counted, explain, sentence } from "./words.js";

/** In milliseconds, between two requests for the list. */
const POLL_INTERVAL = 2000;

let go = () => {};
let onUnavailable = () => {};
let onChange = () => {};
let shown = new AbortController();

/** @param {{go: Function, onUnavailable: Function, onChange: () => void}} page `onChange`: new images */
export function installJobsView(page) {
  ({ go, onUnavailable, onChange } = page);
  onChosen(byId("files"), uploadFiles);
  byId("dataset-form").addEventListener("submit", (event) => {
    event.preventDefault();
    startDataset();
  });
}

/** @param {import("./address.js").State|null} state null: the user leaves the view */
export function showJobs(state) {
  shown.abort();
  if (!state) return;
  shown = new AbortController();
  const { signal } = shown;
  followJob(state.job, signal, onChange);
  pollJobs(state.job, signal).catch((error) => {
    if (error.name !== "AbortError") throw error;
  });
}

/** Requests the list again and again: other people start jobs too. */
async function pollJobs(job, signal) {
  for (;;) {
    try {
      const { jobs } = await callJson("/v1/jobs?limit=50", { signal });
      drawList(jobs, job);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      if (error.passing) return onUnavailable(error);
      showJobsMessage(explain(error).text);
      return undefined;
    }
    await pause(POLL_INTERVAL, signal);
  }
}

function drawList(jobs, chosen) {
  showJobsMessage(jobs.length ? "" : "No job has run yet. Upload images or name a data set to begin.");
  fill(
    byId("jobs"),
    jobs.map((job) => {
      const bar = h("progress", {
        max: job.total || 1,
        value: job.total === 0 ? 1 : done(job),
        "aria-label": `Progress of ${jobName(job)}`,
      });
      return h(
        "li",
        {},
        h(
          "a",
          {
            href: `/?view=jobs&job=${encodeURIComponent(job.id)}`,
            "data-inside": true,
            "aria-current": job.id === chosen ? "true" : null,
            dataset: { key: job.id },
          },
          h("strong", {}, jobName(job)),
          h("span", { class: `state ${job.state}` }, stateWord(job)),
          h("span", { class: "quiet" }, progress(job)),
          h(
            "time",
            { class: "quiet", datetime: job.created_at },
            new Date(job.created_at).toLocaleString("en-GB", {
              dateStyle: "medium",
              timeStyle: "short",
            }),
          ),
        ),
        isFinal(job) ? null : bar,
      );
    }),
  );
}

function showJobsMessage(text) {
  byId("jobs-message").textContent = text;
  byId("jobs-message").hidden = !text;
}

async function startDataset() {
  const [dataset, split, limit] = ["dataset", "split", "job-limit"].map((id) =>
    byId(id).value.trim(),
  );
  const wrong = datasetFault(dataset, limit);
  showFault("dataset", wrong);
  if (wrong) return byId(dataset ? "job-limit" : "dataset").focus();
  try {
    const job = await post("/v1/jobs", {
      dataset,
      ...(split && { split }),
      ...(limit && { limit: Number(limit) }),
    });
    open(job);
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    if (error.passing) return onUnavailable(error);
    showFault("dataset", startFault(error));
  }
  return undefined;
}

function startFault(problem) {
  if (problem.status === 403) return explain(problem).text;
  if (problem.type.endsWith(":source-not-allowed"))
    return `The setting KINDRED_SOURCES of this server does not allow this data set. ${sentence(problem)} Ask your administrator.`;
  return `This data set cannot be added. ${sentence(problem)}`;
}

function datasetFault(dataset, limit) {
  if (!dataset) return "Name a data set, or a folder on the server.";
  if (
    byId("job-limit").validity.badInput ||
    (limit && !(Number(limit) >= 1 && Number.isInteger(Number(limit))))
  ) {
    return "The number of rows must be a whole number, 1 or more.";
  }
  return undefined;
}

/** @param {File[]} files */
export async function uploadFiles(files) {
  if (!mayIngest()) return showJobsMessage(NOT_ALLOWED);
  const container = byId("upload-progress");
  const bar = h("progress", { max: 1, value: 0, "aria-label": "Upload" });
  const text = h("p", { class: "quiet" }, `Sending ${counted(files.length, "file")}…`);
  fill(container, text, bar);
  announce(text.textContent);
  const onProgress = (fraction) => {
    bar.value = fraction;
    text.textContent = `Sending ${counted(files.length, "file")}: ${Math.round(fraction * 100)} %`;
  };
  const jobs = [];
  const onJob = (job) => jobs.push(job);
  try {
    const refused = await upload(files, { onProgress, onJob });
    fill(container, h("p", {}, sentLine(files, refused, jobs)), refused.length > 0 && tooLarge(refused));
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    fill(
      container,
      h(
        "p",
        { class: "fault" },
        error.status === 403
          ? explain(error).text
          : `Not all files could be sent. ${sentence(error)} Send them again: Kindred recognises stored images.`,
      ),
    );
    if (error.passing) onUnavailable(error);
  }
  if (jobs.length) open(jobs.at(-1));
  return undefined;
}

/** Says how many files have reached the server: those alone are counted in its jobs. */
function sentLine(files, refused, jobs) {
  const sent = files.length - refused.length;
  const part = refused.length ? `${sent.toLocaleString("en")} of ` : "";
  const parts = jobs.length > 1 ? `, in ${jobs.length} jobs` : "";
  return `Sent ${part}${counted(files.length, "file")}${parts}.`;
}

const tooLarge = (files) =>
  h(
    "div",
    { class: "fault" },
    h("p", {}, `${counted(files.length, "file is", "files are")} too large for this server:`),
    h(
      "ul",
      {},
      files.slice(0, 20).map(({ name }) => h("li", {}, name)),
    ),
  );

function open(job) {
  go({ view: "jobs", job: job.id });
  byId("job").focus({ preventScroll: true });
}
