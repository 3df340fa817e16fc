// The labels view, for admins: audits of labels, and what each has found, to confirm or to dismiss.

import { announce, byId, fill, h } from "./dom.js";
import { findingCard } from "./finding-card.js";
import { here } from "./here.js";
import { Problem, callJson, pause, post } from "./server.js";
import { time } from "./withheld.js";
import { NOT_ALLOWED, counted, explain, fieldLabel, fieldNoun, sentence } from "./words.js";
import { isFinal, stateWord } from "./job-words.js";

const PAGE = 20;
/** In milliseconds, between two looks at an audit that runs. */
const POLL_INTERVAL = 1000;

const KINDS = {
  conflicting_copies: "Same picture, different labels",
  unlike_neighbours: "Neighbours disagree",
  copies: "Same picture, several ids",
};

let go = () => {};
let onUnavailable = () => {};
let shown = new AbortController();
let chosen = null;
let cursor = 0;

/** @param {{go: Function, onUnavailable: Function}} page */
export function installLabelsView(page) {
  ({ go, onUnavailable } = page);
  byId("audit-form").addEventListener("submit", (event) => {
    event.preventDefault();
    start();
  });
  byId("finding-kind").addEventListener("change", ({ target }) => go({ kind: target.value || null }));
  byId("finding-state").addEventListener("change", ({ target }) =>
    go({ decided: target.value || null }),
  );
  byId("findings-more").addEventListener("click", () => more(chosen, shown.signal));
}

/** @param {import("./address.js").State|null} state null: the user leaves the view */
export function showLabels(state) {
  shown.abort();
  if (!state) return;
  shown = new AbortController();
  load(state, shown.signal).catch((error) => {
    if (error.name === "AbortError") return;
    if (!(error instanceof Problem)) throw error;
    if (error.passing) onUnavailable(error);
    else say(error.status === 403 ? NOT_ALLOWED : explain(error).text);
  });
}

async function load(state, signal) {
  chosen = state;
  byId("finding-kind").value = state.kind ?? "";
  byId("finding-state").value = state.decided ?? "";
  const [{ audits }] = await Promise.all([
    callJson("/v1/label-audits", { signal }),
    offerFields(signal),
  ]);
  drawAudits(audits, state.audit);
  const audit = state.audit ?? audits.find((each) => each.state === "succeeded")?.id;
  byId("findings-part").hidden = !audit;
  say(audits.length ? "" : "No audit yet. Choose what to audit, and start one.");
  if (audit) await showAudit({ ...state, audit }, signal);
}

/** Shows an audit, and looks again while it runs. */
async function showAudit(state, signal) {
  let found;
  for (;;) {
    found = await callJson(`/v1/label-audits/${encodeURIComponent(state.audit)}`, { signal });
    drawHead(found);
    if (found.report) break;
    if (isFinal(found.job)) return;
    await pause(POLL_INTERVAL, signal);
  }
  chosen = { ...state, label: found.report.label };
  cursor = 0;
  fill(byId("findings"));
  await more(chosen, signal);
  const { audits } = await callJson("/v1/label-audits", { signal });
  drawAudits(audits, state.audit);
}

function drawHead(found) {
  const { report, job } = found;
  const running = isFinal(job) ? "" : `${counted(job.counts.audited ?? 0, "image")} so far. `;
  const line = report
    ? `${counted(report.compared, "image")} of ${report.images.toLocaleString("en")} compared by ${fieldNoun(report.label)}${report.filtered ? ", of those that a filter matches" : ""}. Nothing is changed by a decision: correct a label where it comes from, and add the image again.`
    : `${stateWord(job)}. ${running}${job.error ? sentence(job.error) : ""}`;
  byId("findings-note").textContent = line;
  byId("findings-tools").hidden = !report;
  for (const option of byId("finding-kind").options) {
    const counts = found.findings?.[option.value];
    const total = counts && Object.values(counts).reduce((sum, count) => sum + count, 0);
    option.textContent = `${KINDS[option.value] ?? "All kinds"}${counts ? ` (${total})` : ""}`;
  }
  if (report) byId("findings-csv").href = here(`/v1/label-audits/${encodeURIComponent(found.id)}/findings.csv`);
}

async function more(state, signal) {
  const given = new URLSearchParams({ limit: String(PAGE), cursor: String(cursor) });
  if (state.kind) given.set("kind", state.kind);
  if (state.decided) given.set("decision", state.decided);
  const path = `/v1/label-audits/${encodeURIComponent(state.audit)}/findings`;
  const page = await callJson(`${path}?${given}`, { signal });
  const list = byId("findings");
  if (!cursor && !page.findings.length) {
    fill(list, h("li", { class: "quiet" }, "Nothing was found that fits."));
  }
  list.append(
    ...page.findings.map((each) =>
      findingCard(each, state.label, (action) => post(`${path}/${encodeURIComponent(each.id)}/${action}`, {})),
    ),
  );
  cursor = page.cursor;
  byId("findings-more").hidden = cursor === null;
}

function drawAudits(audits, current) {
  fill(
    byId("audits"),
    audits.map((job) =>
      h(
        "li",
        {},
        h(
          "a",
          {
            href: `./?view=labels&audit=${encodeURIComponent(job.id)}`,
            "data-inside": true,
            "aria-current": job.id === current ? "true" : null,
            dataset: { key: job.id },
          },
          h("strong", {}, time(job.created_at)),
          h("span", { class: `state ${job.state}` }, stateWord(job)),
        ),
      ),
    ),
  );
}

/** The fields whose values can be counted are those that are labels. */
async function offerFields(signal) {
  const select = byId("audit-label");
  if (select.options.length) return;
  const { facets } = await callJson("/v1/facets", { signal });
  const names = Object.keys(facets).filter((name) => !/_id$/.test(name));
  fill(select, names.map((name) => h("option", { value: name }, fieldLabel(name))));
  if (names.includes("dx")) select.value = "dx";
}

async function start() {
  const label = byId("audit-label").value;
  if (!label) return;
  const fault = byId("audit-fault");
  fault.hidden = true;
  try {
    const { id } = await post("/v1/label-audits", { label });
    announce("The audit has begun");
    go({ audit: id, kind: null, decided: null });
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    fault.textContent = error.detail ? sentence(error) : explain(error).text;
    fault.hidden = false;
  }
}

function say(text) {
  const place = byId("labels-message");
  place.textContent = text;
  place.hidden = !text;
}
