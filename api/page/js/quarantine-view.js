// The quarantine view, for admins: the images that wait, and the one that is looked at.

import { announce, byId, fill, h } from "./dom.js";
import { here } from "./here.js";
import { Problem, callJson, pause } from "./server.js";
import { shortly, showWithheld, time } from "./withheld.js";
import { NOT_ALLOWED, counted, explain } from "./words.js";

const PAGE = 50;
/** In milliseconds, between two looks at images that are being released. */
const POLL_INTERVAL = 1500;
/** In milliseconds: the number beside the view's name is this old at most, when views change. */
const COUNT_AGE = 30_000;

let go = () => {};
let onUnavailable = () => {};
let onChange = () => {};
let shown = new AbortController();
let countedAt = -Infinity;

/** @param {{go: Function, onUnavailable: Function, onChange: () => void}} page `onChange`: new images */
export function installQuarantineView(page) {
  ({ go, onUnavailable, onChange } = page);
  byId("waiting-more").addEventListener("click", () => more());
}

/** What is loaded so far, in the order of the list. */
let images = [];
let cursor = null;

/** @param {import("./address.js").State|null} state null: the user leaves the view */
export function showQuarantine(state) {
  shown.abort();
  if (!state) return;
  shown = new AbortController();
  const { signal } = shown;
  keepUp(state.waits, signal).catch((error) => {
    if (error.name === "AbortError") return;
    if (!(error instanceof Problem)) throw error;
    if (error.passing) onUnavailable(error);
    else say(error.status === 403 ? NOT_ALLOWED : explain(error).text);
  });
}

/** Shows beside the view's name how many images wait. For admins alone. */
export async function showWaitingCount() {
  if (document.body.dataset.role !== "admin") return;
  if (performance.now() - countedAt < COUNT_AGE) return;
  try {
    tell((await callJson("/v1/quarantine?limit=0")).count);
  } catch (error) {
    if (!(error instanceof Problem)) throw error; // the page's other calls report what is wrong
  }
}

function tell(count) {
  countedAt = performance.now();
  const badge = byId("waiting-count");
  badge.hidden = !count;
  badge.textContent = count.toLocaleString("en");
  badge.setAttribute("aria-label", `${counted(count, "image")} waiting`);
}

/** Loads the list, and again while images are being released. */
async function keepUp(chosen, signal) {
  let before = null;
  for (;;) {
    await load(Math.max(PAGE, images.length), signal);
    draw(chosen, before === null || before !== stateOf(chosen));
    before = stateOf(chosen);
    if (!images.some((image) => image.releasing)) return;
    await pause(POLL_INTERVAL, signal);
  }
}

/** Whether the chosen image is there, and being released: only then its part is drawn anew. */
function stateOf(chosen) {
  const image = images.find((each) => each.image_id === chosen);
  return image ? String(image.releasing) : "gone";
}

async function load(limit, signal) {
  const had = images.length;
  const page = await callJson(`/v1/quarantine?limit=${Math.min(limit, 200)}`, { signal });
  ({ images, cursor } = page);
  if (images.length < had) onChange();
  tell(page.count);
}

async function more() {
  const page = await callJson(`/v1/quarantine?limit=${PAGE}&cursor=${cursor}`);
  images = [...images, ...page.images];
  ({ cursor } = page);
  drawList(new URLSearchParams(location.search).get("waits"));
}

function draw(chosen, again) {
  say(images.length ? "" : "No image waits.");
  drawList(chosen);
  const container = byId("withheld");
  const image = images.find((each) => each.image_id === chosen);
  container.hidden = !image;
  if (image && again) showWithheld(container, image, (done) => next(image, done));
}

function drawList(chosen) {
  byId("waiting-more").hidden = cursor === null;
  fill(
    byId("waiting"),
    images.map((image) =>
      h(
        "li",
        {},
        h(
          "a",
          {
            href: `./?view=quarantine&waits=${encodeURIComponent(image.image_id)}`,
            "data-inside": true,
            "aria-current": image.image_id === chosen ? "true" : null,
            dataset: { key: image.image_id },
          },
          h("img", {
            src: here(`/v1/quarantine/${encodeURIComponent(image.image_id)}/preview`),
            alt: "",
            width: image.width,
            height: image.height,
            loading: "lazy",
          }),
          h("strong", {}, shortly(image.reason)),
          h("time", { class: "quiet", datetime: image.time }, time(image.time)),
          image.releasing ? h("span", { class: "state running" }, "Being released") : null,
        ),
      ),
    ),
  );
}

/** Goes on to the next image that waits. */
function next(image, done) {
  announce(done === "refused" ? "Refused" : "The image is being released");
  const at = images.findIndex((each) => each.image_id === image.image_id);
  const others = [...images.slice(at + 1), ...images.slice(0, Math.max(0, at))];
  go({ waits: others.find((each) => !each.releasing)?.image_id ?? null });
  byId("withheld").focus({ preventScroll: true });
}

function say(text) {
  const place = byId("waiting-message");
  place.textContent = text;
  place.hidden = !text;
}
