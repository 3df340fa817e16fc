// One job, live: its account as it changes, what can be done to it, and what was refused.

import {
  account,
  actionsOf,
  amount,
  done,
  isFinal,
  jobName,
  pace,
  stateWord,
  trouble,
} from "./job-words.js";
import { announce, byId, fill, h } from "./dom.js";
import { Problem, callJson, pause, post } from "./server.js";
import { fileName } from "./upload.js";
import { refusal } from "./words.js";

const ROWS = 25;

/** In milliseconds, until a server that is away is asked again. */
const LOOK_AGAIN = 2000;

const WORDS = { pause: "Pause", resume: "Resume", cancel: "Cancel", retry: "Run again" };

/**
 * @param {string|null} id
 * @param {AbortSignal} signal ends the watching
 * @param {() => void} onEnd told when the job has ended
 */
export function watchJob(id, signal, onEnd) {
  const place = byId("job");
  place.hidden = id === null;
  if (id === null) return;
  const parts = { head: h("div"), rejections: h("div") };
  fill(place, parts.head, parts.rejections);
  let job = null;
  let events = null;

  const show = (next) => {
    const before = job;
    job = next;
    drawHead(parts.head, job, act);
    if (before && before.state !== job.state) announce(`${jobName(job)}: ${stateWord(job)}`);
    if (job.rejected !== (before?.rejected ?? 0)) drawRejections(parts.rejections, job);
    if (isFinal(job)) {
      events?.close();
      if (before && !isFinal(before)) onEnd();
    }
  };

  const listen = () => {
    events?.close();
    events = new EventSource(`/v1/jobs/${encodeURIComponent(id)}/events`);
    events.addEventListener("job", (event) => show(JSON.parse(event.data)));
    // The browser connects again by itself, unless the server has refused; then ask why.
    events.addEventListener("error", () => events.readyState === EventSource.CLOSED && ask());
  };

  const act = async (action) => {
    try {
      show(await post(`/v1/jobs/${encodeURIComponent(id)}/${action}`, {}));
      if (!isFinal(job)) listen();
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      sayOf(
        parts.head,
        error.status === 409
          ? "This is not possible any more: the job has moved on."
          : "This did not work. Try it again in a moment.",
      );
      if (error.status === 409) ask();
    }
  };

  /** Looks once, and listens if there is more to come. */
  const ask = async () => {
    try {
      show(await callJson(`/v1/jobs/${encodeURIComponent(id)}`, { signal }));
      if (!isFinal(job)) listen();
    } catch (error) {
      if (!(error instanceof Problem)) return;
      if (error.passing) return pause(LOOK_AGAIN, signal).then(ask, () => {});
      fill(
        parts.head,
        h("h2", { id: "job-title" }, "No such job"),
        h("p", {}, "The server knows no job under this address. It may have been a while ago."),
      );
    }
  };

  signal.addEventListener("abort", () => events?.close());
  fill(parts.head, h("h2", { id: "job-title" }, "Job"), h("p", { class: "quiet" }, "Loading…"));
  ask();
}

function drawHead(place, job, act) {
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
        class: action === "cancel" ? "careful" : "",
        dataset: { key: action, action },
        onclick: () => act(action),
      },
      WORDS[action],
    );
  const wrong = trouble(job);
  fill(
    place,
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
    h("p", { class: "quiet", id: "job-account" }, account(job)),
    wrong && h("p", { class: "fault" }, wrong),
    h("div", { class: "buttons" }, actionsOf(job).map(button)),
  );
}

function sayOf(place, text) {
  place.querySelector(".said")?.remove();
  place.append(h("p", { class: "fault said", role: "alert" }, text));
}

/** The first rows anew, and the following ones by a button. */
async function drawRejections(place, job) {
  if (!job.rejected) return fill(place);
  const rows = h("tbody");
  const more = h("button", { dataset: { key: "more" } }, "More refused pictures");
  const table = h(
    "table",
    {},
    h("caption", {}, "Refused pictures"),
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        ["Row", "Picture", "Why"].map((word) => h("th", { scope: "col" }, word)),
      ),
    ),
    rows,
  );
  const next = async (cursor) => {
    more.hidden = true;
    const page = await callJson(
      `/v1/jobs/${encodeURIComponent(job.id)}/rejections?limit=${ROWS}&cursor=${cursor}`,
    );
    rows.append(
      ...page.rejections.map(({ row, key, reason }) =>
        h(
          "tr",
          {},
          h("td", {}, String(row + 1)),
          h("td", { class: "key" }, fileName(job.id, row) ?? shortKey(key)),
          h("td", {}, refusal(reason)),
        ),
      ),
    );
    more.hidden = page.cursor === null;
    more.onclick = () => next(page.cursor).catch(ignoreProblem);
  };
  try {
    await next(0);
    fill(place, table, more);
  } catch (error) {
    ignoreProblem(error);
  }
  return undefined;
}

/** Of an image without an id the key is the hash of its bytes, of which the beginning will do. */
const shortKey = (key) => (/^[0-9a-f]{64}$/.test(key) ? `${key.slice(0, 12)}…` : key);

/** The account says how many were refused; their list comes with the next look. */
function ignoreProblem(error) {
  if (!(error instanceof Problem)) throw error;
}
