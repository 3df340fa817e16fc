// Where the page begins: the address, the two views, and what is done when the server is away.

import { announce, byId, fill, h, showFault } from "./dom.js";
import { emptyState, format, parse } from "./address.js";
import { forgetCollection, installSearchView, isIncomplete, showSearch } from "./search-view.js";
import { installJobsView, showJobs, uploadFiles } from "./jobs-view.js";
import { installOptions } from "./options.js";
import { installSignIn, showSession } from "./sign-in.js";
import { keep, kept, onChosen, onFiles } from "./picture.js";
import { onBusy, whenReady } from "./server.js";
import { counted } from "./words.js";

let state = emptyState();

/** The search to come back to from the jobs. */
let lastSearch = { state, picture: undefined };

/** @typedef {{picture?: number, replace?: boolean}} Options */

/** Goes to a changed state, as a step that the back button takes back. */
function go(change, { picture = history.state?.picture } = {}) {
  state = { ...state, ...change };
  history.pushState(
    { picture: state.start?.kind === "picture" ? picture : undefined },
    "",
    format(state),
  );
  show();
}

function show() {
  const { view } = state;
  const picture = history.state?.picture;
  byId("search-view").hidden = view !== "search";
  byId("jobs-view").hidden = view !== "jobs";
  for (const link of document.querySelectorAll("[data-view]")) {
    if (link.dataset.view === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = view === "jobs" ? "Jobs – Kindred" : title();
  showSession();
  byId("compare").close();
  showJobs(view === "jobs" ? state : null);
  if (view === "jobs") return;
  lastSearch = { state, picture };
  showSearch(state, kept(picture));
}

function title() {
  if (state.start?.kind === "held") return `Similar to ${state.start.id} – Kindred`;
  return state.start ? "Similar pictures – Kindred" : "Kindred";
}

function takePicture([file]) {
  showFault("picture");
  go({ ...fresh(), start: { kind: "picture" } }, { picture: keep(file) });
  toFound();
}

/** The form that was used is gone; what it has brought is next. */
function toFound() {
  byId("found").focus({ preventScroll: true });
}

/** Another picture keeps the settings, not what belonged to the one before. */
const fresh = () => ({ view: "search", crop: null, like: [], unlike: [], apart: null });

// --- when the server is away ---------------------------------------------------------------------

let waiting = null;

/** Says so, and goes on by itself when a worker is ready. @param {{status: number}} problem */
async function away(problem) {
  const banner = byId("banner");
  const text =
    problem.status === 0
      ? "Kindred cannot be reached. This page tries again by itself."
      : "Kindred cannot search just now: the part of it that compares pictures is away or still starting. This page goes on by itself.";
  fill(banner, h("p", {}, text));
  banner.hidden = false;
  if (waiting) return;
  waiting = whenReady();
  await waiting;
  waiting = null;
  banner.hidden = true;
  announce("Kindred is back");
  if (state.view === "jobs" || isIncomplete()) show();
}

/** @param {number} seconds until the calls that were put off are made again; 0: none is */
function busy(seconds) {
  if (waiting) return; // that nothing answers at all says more
  const text = `More is asked of Kindred than it can answer at once. This page goes on by itself in ${counted(seconds, "second")}.`;
  byId("banner").hidden = !seconds;
  if (seconds) fill(byId("banner"), h("p", {}, text));
}

// --- links, forms, keys --------------------------------------------------------------------------

function follow(event) {
  const link = event.target.closest("a[data-inside]");
  const ours = link && event.button === 0 && !event.ctrlKey && !event.metaKey && !event.shiftKey;
  if (!ours) return;
  event.preventDefault();
  const back = link.dataset.view === "search" && state.view === "jobs";
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
onBusy(busy);
installSearchView({ go, away });
installJobsView({ go, away, onChange: forgetCollection });
installOptions(go);
onChosen(byId("file"), takePicture);
onFiles((files) => (state.view === "jobs" ? uploadFiles(files) : takePicture(files)));
submit("id-form", "id-field", (id) => ({ kind: "held", id }));
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
