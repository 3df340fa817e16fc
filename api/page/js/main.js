// The page starts here: it handles the address, the two views, and a server that is unavailable.

import { announce, byId, fill, h, showFault } from "./dom.js";
import { emptyState, format, parse } from "./address.js";
import { forgetCollection, installSearchView, isIncomplete, showSearch } from "./search-view.js";
import { installJobsView, showJobs, uploadFiles } from "./jobs-view.js";
import { installQuarantineView, showQuarantine, showWaitingCount } from "./quarantine-view.js";
import { installLabelsView, showLabels } from "./labels-view.js";
import { installConcept } from "./concept.js";
import { installQualityView, showQuality } from "./quality-view.js";
import { installOptions } from "./options.js";
import { installSignIn, showSession } from "./sign-in.js";
import { installHelp } from "./help.js";
import { block, say } from "./messages.js";
import { dicomOf } from "./dicom.js";
import { keep, kept, onChosen, onFiles } from "./picture.js";
import { unseal } from "./opening.js";
import { onBusy, whenReady } from "./server.js";
import { BAD_LINK, counted } from "./words.js";

let state = emptyState();

/** The search to return to from the jobs. */
let lastSearch = { state, picture: undefined };

/** @typedef {{picture?: number, replace?: boolean}} Options */

/** Goes to a changed state, as a step that the back button undoes. */
function go(change, { picture = history.state?.picture } = {}) {
  state = { ...state, ...change };
  history.pushState(
    { picture: state.start?.kind === "picture" ? picture : undefined },
    "",
    format(state),
  );
  show();
}

/** Follows a link of another system to what it opens, in place of the link. */
async function followLink() {
  const opened = await unseal(state.open).catch(() => null);
  const start = opened && { kind: "collected", ...opened };
  state = { ...state, open: null, start };
  history.replaceState({}, "", format(state));
  show();
  if (!opened) say(block("This cannot be opened", [BAD_LINK]));
}

function show() {
  const { view } = state;
  if (state.open) {
    followLink();
    return;
  }
  const picture = history.state?.picture;
  byId("search-view").hidden = view !== "search";
  byId("jobs-view").hidden = view !== "jobs";
  byId("quality-view").hidden = view !== "quality";
  byId("quarantine-view").hidden = view !== "quarantine";
  byId("labels-view").hidden = view !== "labels";
  for (const link of document.querySelectorAll("[data-view]")) {
    if (link.dataset.view === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = TITLES[view] ?? title();
  showSession().then(showWaitingCount);
  byId("compare").close();
  showJobs(view === "jobs" ? state : null);
  showQuality(view === "quality" ? state : null);
  showQuarantine(view === "quarantine" ? state : null);
  showLabels(view === "labels" ? state : null);
  if (view !== "search") return;
  lastSearch = { state, picture };
  showSearch(state, kept(picture));
}

const TITLES = {
  jobs: "Jobs – Kindred",
  quality: "Quality – Kindred",
  quarantine: "Quarantine – Kindred",
  labels: "Labels – Kindred",
};

function title() {
  if (state.start?.kind === "collected") return `Similar to this ${state.start.by} – Kindred`;
  if (state.start?.kind === "stored") return `Similar to ${state.start.id} – Kindred`;
  return state.start ? "Similar images – Kindred" : "Kindred";
}

async function takePicture(files) {
  showFault("picture");
  const scans = await dicomOf(files);
  const chosen = scans.length ? scans : files.slice(0, 1);
  if (!chosen.length) return showFault("picture", "There is no image in this folder.");
  const picture = keep(chosen, scans.length > 0);
  // Several files of DICOM are a series, which is compared as a whole.
  go({ ...fresh(), start: { kind: "picture" }, whole: scans.length > 1 }, { picture });
  toFound();
}

/** Moves the focus from the form, which is gone now, to the results. */
function toFound() {
  byId("found").focus({ preventScroll: true });
}

/** A new query image keeps the settings, but nothing that belonged to the previous image. */
const fresh = () => ({ view: "search", open: null, crop: null, frame: null, whole: false, words: null, like: [], unlike: [], same: false });

// --- when the server is unavailable --------------------------------------------------------------

let waiting = null;

/** What is away, in the api's own words, since somebody must act where a disk is full. */
const AWAY = /:(store|blobs)-unavailable$/;

/** Says so, and continues when a worker is ready. @param {{status: number, type?: string, detail?: string}} problem */
async function onUnavailable(problem) {
  const banner = byId("banner");
  const text =
    problem.status === 0
      ? "Kindred cannot be reached. This page tries again by itself."
      : `Kindred cannot search just now: ${reason(problem)}. This page continues by itself.`;
  fill(banner, h("p", {}, text));
  banner.hidden = false;
  if (waiting) return;
  waiting = whenReady();
  await waiting;
  waiting = null;
  banner.hidden = true;
  announce("Kindred is available again");
  if (state.view !== "search" || isIncomplete()) show();
}

function reason(problem) {
  if (AWAY.test(problem.type ?? "")) return problem.detail.replace(/\.$/, "");
  return "the part that compares images is not available or still starting";
}

/** @param {number} seconds until delayed calls are repeated; 0: no call is delayed */
function busy(seconds) {
  if (waiting) return; // the banner already says that nothing answers, which is worse
  const text = `Kindred has more requests than it can answer at once. This page continues by itself in ${counted(seconds, "second")}.`;
  byId("banner").hidden = !seconds;
  if (seconds) fill(byId("banner"), h("p", {}, text));
}

// --- links, forms, keys --------------------------------------------------------------------------

function follow(event) {
  const link = event.target.closest("a[data-inside]");
  const ours = link && event.button === 0 && !event.ctrlKey && !event.metaKey && !event.shiftKey;
  if (!ours) return;
  event.preventDefault();
  const back = link.dataset.view === "search" && state.view !== "search";
  if (back) go({ ...lastSearch.state, view: "search" }, { picture: lastSearch.picture });
  else go(parse(new URL(link.href).search), {});
}

function submit(id, field, toStart) {
  byId(id).addEventListener("submit", (event) => {
    event.preventDefault();
    const text = byId(field).value.trim();
    if (!text) return byId(field).focus();
    go({ ...fresh(), start: toStart(text) });
    return toFound();
  });
}

installSignIn();
installHelp();
onBusy(busy);
installSearchView({ go, onUnavailable });
installJobsView({ go, onUnavailable, onChange: forgetCollection });
installQuarantineView({ go, onUnavailable, onChange: forgetCollection });
installQualityView({ go, onUnavailable });
installLabelsView({ go, onUnavailable });
installOptions(go);
installConcept(go);
onChosen(byId("file"), takePicture);
onChosen(byId("folder"), takePicture);
onFiles((files) => (state.view === "jobs" ? uploadFiles(files) : takePicture(files)));
submit("id-form", "id-field", (id) => ({ kind: "stored", id }));
submit("text-form", "text-field", (text) => ({ kind: "text", text }));
byId("restart").addEventListener("click", () => {
  go({ ...fresh(), start: null });
  byId("file").focus();
});
byId("clear-filters").addEventListener("click", () => go({ choices: {}, ranges: {} }));
document.addEventListener("click", follow);
window.addEventListener("popstate", () => {
  state = parse(location.search);
  show();
});

byId("settings").open = window.matchMedia("(min-width: 60rem)").matches;
state = parse(location.search);
show();
