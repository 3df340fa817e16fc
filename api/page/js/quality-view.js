// The quality view: how good the search is on this collection. Evaluations and comparisons of
// encoders, a form to start each, and the report of one.

import { announce, byId, fill, h, showFault } from "./dom.js";
import { Problem, callJson, pause, post } from "./server.js";
import { drawComparison } from "./comparison-report.js";
import { drawReport, hasGroup } from "./quality-report.js";
import { stateWord } from "./job-words.js";
import { showSession } from "./sign-in.js";
import { time } from "./withheld.js";
import { explain, fieldLabel, fieldNoun, sentence } from "./words.js";

/** In milliseconds, between two looks at what runs. */
const POLL_INTERVAL = 1500;
/** A label with more values than this is no diagnosis, but a name or a number. */
const MOST_VALUES = 60;
/** Of the fields that are known, those that are chosen first. */
const USUAL = { label: /^(dx|diagnosis)$/, group: /^(lesion_id|patient_id|PatientID)$/ };

const KINDS = {
  evaluation: { path: "/v1/evaluations", list: "evaluations", name: "Evaluation", draw: drawReport },
  comparison: { path: "/v1/comparisons", list: "comparisons", name: "Comparison of encoders", draw: drawComparison },
};

let go = () => {};
let onUnavailable = () => {};
let shown = new AbortController();
let known = null;

/** @param {{go: Function, onUnavailable: Function}} page */
export function installQualityView(page) {
  ({ go, onUnavailable } = page);
  byId("evaluate-form").addEventListener("submit", (event) => {
    event.preventDefault();
    start("evaluation", "evaluate", {});
  });
  byId("compare-form").addEventListener("submit", (event) => {
    event.preventDefault();
    startComparison();
  });
}

/** @param {import("./address.js").State|null} state null: the user leaves the view */
export function showQuality(state) {
  shown.abort();
  if (!state) return;
  shown = new AbortController();
  const { signal } = shown;
  Promise.all([offerFields(signal), follow(state.report, signal)]).catch((error) => {
    if (error.name === "AbortError") return;
    if (!(error instanceof Problem)) throw error;
    if (error.passing) onUnavailable(error);
    else say(explain(error).text);
  });
}

// --- forms ---------------------------------------------------------------------------------------

/** Offers the fields of this collection as labels and groups. */
async function offerFields(signal) {
  if (known) return;
  known = await callJson("/v1/collection", { signal });
  const labels = Object.entries(known.facets)
    .filter(([, values]) => values.length > 1 && values.length <= MOST_VALUES)
    .map(([name]) => name);
  for (const form of ["evaluate", "compare"]) {
    offer(`${form}-label`, labels, USUAL.label);
    offer(`${form}-group`, known.group_fields, USUAL.group);
    byId(`${form}-group`).append(h("option", { value: "none" }, "Nothing: all are different"));
  }
}

function offer(id, names, usual) {
  fill(byId(id), names.map((name) => h("option", { value: name }, fieldLabel(name))));
  const first = names.find((name) => usual.test(name.split(".").at(-1)));
  if (first) byId(id).value = first;
}

function startComparison() {
  const models = byId("compare-models").value.split("\n").map((line) => line.trim()).filter(Boolean);
  if (models.length < 2) {
    showFault("compare", "Name at least two encoders, one a line.");
    return byId("compare-models").focus();
  }
  return start("comparison", "compare", { models: models.map(spelled) });
}

/** NAME,pooling=mean,preprocessing=crop, as the command line takes it. */
function spelled(line) {
  const [model, ...options] = line.split(",").map((part) => part.trim());
  return { model, ...Object.fromEntries(options.map((option) => option.split("=").map((part) => part.trim()))) };
}

async function start(kind, form, more) {
  const sample = byId(`${form}-sample`);
  const wrong = sampleFault(sample);
  showFault(form, wrong);
  if (wrong) return sample.focus();
  const body = {
    label: byId(`${form}-label`).value,
    group: byId(`${form}-group`).value,
    ...(sample.value && { sample: Number(sample.value) }),
    ...more,
  };
  try {
    const { id } = await post(KINDS[kind].path, body);
    go({ view: "quality", report: `${kind}:${id}` });
    byId("report").focus({ preventScroll: true });
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    if (error.passing) return onUnavailable(error);
    showFault(form, error.status === 403 ? explain(error).text : `This cannot be started. ${sentence(error)}`);
  }
  return undefined;
}

function sampleFault({ value, validity }) {
  if (validity.badInput || (value && !(Number(value) >= 100 && Number.isInteger(Number(value)))))
    return "The sample must be a whole number, 100 or more.";
  return undefined;
}

// --- the list, and one report ----------------------------------------------------------------------

/** Shows the list and one report, again and again while something runs. */
async function follow(chosen, signal) {
  let drawn = null;
  for (;;) {
    const all = await loadAll(signal);
    drawList(all, chosen ?? keyOf(all[0]));
    const one = await loadOne(chosen ?? keyOf(all[0]), signal);
    const state = one && `${one.id} ${one.state} ${JSON.stringify(one.counts ?? {})}`;
    if (state !== drawn) drawOne(one, chosen);
    if (drawn && one?.final && state !== drawn) announce(`${one.kindName}: ${stateWord(one)}`);
    drawn = state;
    if (all.every((each) => each.final)) return;
    await pause(POLL_INTERVAL, signal);
  }
}

async function loadAll(signal) {
  await showSession(); // comparisons are for admins, and an admin is known once it has answered
  const kinds = isAdmin() ? ["evaluation", "comparison"] : ["evaluation"];
  const lists = await Promise.all(
    kinds.map(async (kind) => {
      const found = await callJson(KINDS[kind].path, { signal });
      return found[KINDS[kind].list].map((each) => ({ ...each, kind }));
    }),
  );
  return lists.flat().sort((a, b) => (a.created_at < b.created_at ? 1 : -1));
}

const isAdmin = () => document.body.dataset.role === "admin";
const keyOf = (one) => (one ? `${one.kind}:${one.id}` : null);

async function loadOne(key, signal) {
  if (!key) return null;
  const [kind, id] = key.split(":");
  const { path, name } = KINDS[kind] ?? KINDS.evaluation;
  try {
    const found = await callJson(`${path}/${encodeURIComponent(id)}`, { signal });
    return { ...found, kind, kindName: name };
  } catch (error) {
    if (error.status !== 404) throw error;
    return { id, kind, kindName: name, state: "gone", final: true };
  }
}

function drawList(all, chosen) {
  say(all.length ? "" : "Nothing has been evaluated yet.");
  fill(
    byId("evaluations"),
    all.map((one) =>
      h(
        "li",
        {},
        h(
          "a",
          {
            href: `./?view=quality&report=${encodeURIComponent(keyOf(one))}`,
            "data-inside": true,
            "aria-current": keyOf(one) === chosen ? "true" : null,
            dataset: { key: keyOf(one) },
          },
          h("strong", {}, KINDS[one.kind].name),
          h("span", { class: `state ${one.state}` }, stateWord(one)),
          h("time", { class: "quiet", datetime: one.created_at }, time(one.created_at)),
        ),
      ),
    ),
  );
}

function drawOne(one) {
  const container = byId("report");
  container.hidden = one === null;
  if (one === null) return;
  const head = h(
    "div",
    { class: "spread" },
    h("h2", { id: "report-title" }, one.kindName),
    one.state !== "gone" && h("span", { class: `state ${one.state}` }, stateWord(one)),
  );
  fill(container, head, ...content(one));
}

function content(one) {
  if (one.state === "gone") return [h("p", {}, "The server has no report with this address. It may have been removed.")];
  if (one.report) return [...head(one), ...KINDS[one.kind].draw(one.report)];
  if (one.error) return [h("p", { class: "fault" }, `It could not be done. ${sentence(one.error)}`)];
  if (one.final) return [h("p", {}, "It was ended before it had a result.")];
  return [
    h("p", {}, one.notice ?? "This runs on the server. You can leave this page meanwhile."),
    h("progress", { "aria-label": "Progress", ...(one.total && { max: one.total, value: done(one) }) }),
    h("div", { class: "buttons", "data-needs": one.kind === "comparison" ? "admin" : "ingest" },
      h("button", { class: "danger", dataset: { key: "cancel" }, onclick: () => cancel(one) }, "Cancel")),
  ];
}

const done = ({ counts = {} }) => Object.values(counts).reduce((sum, count) => sum + count, 0);

/** What is evaluated, and a warning if its encoder was never trained. */
function head({ report, kind }) {
  const { created_at: at } = report;
  return [
    h("p", { class: "quiet" }, `${time(at)}. By ${fieldNoun(report.request.label)}${hasGroup(report.request) ? `, without the same ${fieldNoun(report.request.group)}` : ""}.`),
    kind === "evaluation" && known?.untrained &&
      known.encoder.weights_sha256 === report.encoder.weights_sha256 &&
      h("p", { class: "caution" }, "The encoder was never trained. Its numbers say nothing about any other encoder."),
  ];
}

async function cancel(one) {
  try {
    await post(`/v1/jobs/${encodeURIComponent(one.id)}/cancel`, {});
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    announce(sentence(error));
  }
}

function say(text) {
  byId("evaluations-message").textContent = text;
  byId("evaluations-message").hidden = !text;
}
