// Shows one job live: its totals as they change, and the possible actions.

import { here } from "./here.js";
import {
  actionsOf,
  amount,
  done,
  isFinal,
  jobName,
  pace,
  stateWord,
  totals,
  trouble,
} from "./job-words.js";
import { announce, byId, fill, h } from "./dom.js";
import { driftOf } from "./drift.js";
import { FileLists } from "./job-files.js";
import { Problem, callJson, pause, post } from "./server.js";
import { explain, sentence } from "./words.js";

/** In milliseconds, until the next request to a server that did not answer. */
const RETRY_DELAY = 2000;

const WORDS = { pause: "Pause", resume: "Resume", cancel: "Cancel", retry: "Run again" };

/**
 * @param {string|null} id
 * @param {AbortSignal} signal stops following the job
 * @param {() => void} onEnd called when the job has ended
 */
export function followJob(id, signal, onEnd) {
  const container = byId("job");
  container.hidden = id === null;
  if (id === null) return;
  const parts = { head: h("div"), drift: h("div"), files: h("div") };
  fill(container, parts.head, parts.drift, parts.files);
  const files = new FileLists(parts.files, signal);
  let job = null;
  let events = null;

  const show = (next) => {
    const before = job;
    job = next;
    drawHead(parts.head, job, act);
    if (before && before.state !== job.state) announce(`${jobName(job)}: ${stateWord(job)}`);
    files.draw(job);
    if (isFinal(job)) {
      events?.close();
      if (!before || !isFinal(before)) driftOf(job, signal).then((part) => fill(parts.drift, part));
      if (before && !isFinal(before)) onEnd();
    }
  };

  const listen = () => {
    events?.close();
    events = new EventSource(here(`/v1/jobs/${encodeURIComponent(id)}/events`));
    events.addEventListener("job", (event) => show(JSON.parse(event.data)));
    // The browser reconnects by itself, unless the server has refused: then a request tells why.
    events.addEventListener("error", () => events.readyState === EventSource.CLOSED && load());
  };

  const act = async (action) => {
    try {
      show(await post(`/v1/jobs/${encodeURIComponent(id)}/${action}`, {}));
      if (!isFinal(job)) listen();
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      showError(
        parts.head,
        error.status === 409
          ? `This is no longer possible: the job has moved on. ${sentence(error)}`
          : `This did not work. ${sentence(error)} Try it again in a moment.`,
      );
      if (error.status === 409) load();
    }
  };

  /** Loads the job once, and listens for events unless it has ended. */
  const load = async () => {
    try {
      show(await callJson(`/v1/jobs/${encodeURIComponent(id)}`, { signal }));
      if (!isFinal(job)) listen();
    } catch (error) {
      if (!(error instanceof Problem)) return;
      if (error.passing) return pause(RETRY_DELAY, signal).then(load, () => {});
      fill(parts.head, ...why(error));
    }
  };

  signal.addEventListener("abort", () => events?.close());
  fill(parts.head, h("h2", { id: "job-title" }, "Job"), h("p", { class: "quiet" }, "Loading…"));
  load();
}

const why = (problem) =>
  problem.status === 404
    ? [
        h("h2", { id: "job-title" }, "No such job"),
        h("p", {}, "The server has no job with this address. It may have been removed."),
      ]
    : [h("h2", { id: "job-title" }, "Job"), h("p", { class: "fault" }, explain(problem).text)];

function drawHead(container, job, act) {
  const total = job.total === 0 ? 1 : job.total;
  const bar = h("progress", {
    max: total ?? 1,
    value: job.total === 0 ? 1 : total === null ? (isFinal(job) ? 0 : null) : done(job),
    "aria-label": "Progress",
  });
  const button = (action) =>
    h(
      "button",
      {
        class: action === "cancel" ? "danger" : "",
        dataset: { key: action, action },
        onclick: () => act(action),
      },
      WORDS[action],
    );
  const wrong = trouble(job);
  fill(
    container,
    h(
      "div",
      { class: "spread" },
      h("h2", { id: "job-title" }, jobName(job)),
      h("span", { class: `state ${job.state}` }, stateWord(job)),
    ),
    bar,
    h(
      "p",
      { class: "job-amount" },
      h("span", { id: "job-amount" }, amount(job)),
      h("span", { class: "quiet", id: "job-pace" }, pace(job)),
    ),
    h("p", { class: "quiet", id: "job-totals" }, totals(job)),
    job.dry_run && h("p", { class: "quiet" }, "A trial run: it counts and checks, and stores nothing."),
    wrong && h("p", { class: "fault" }, wrong),
    h("div", { class: "buttons", "data-needs": "ingest" }, actionsOf(job).map(button)),
  );
}

function showError(container, text) {
  container.querySelector(".said")?.remove();
  container.append(h("p", { class: "fault said", role: "alert" }, text));
}
