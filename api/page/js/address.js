// Converts the search between one plain object and the address bar. It validates nothing: it keeps
// invalid values as they are, and check.js says what is wrong with them.

/**
 * @typedef {string|number|boolean} Value
 * @typedef {{only: Value[], not: Value[]}} Choice
 * @typedef {{least: number|null, most: number|null}} Range
 * @typedef {{left: number, top: number, width: number, height: number}} Crop fractions of the picture
 * @typedef {{kind: "collected", by: "series"|"study"|"accession", keys: string[]}} Collected
 * @typedef {{kind: "stored", id: string}|{kind: "picture"}|{kind: "text", text: string}|Collected|null} Start
 * @typedef {object} State
 * @property {"search"|"jobs"|"quality"|"quarantine"|"labels"} view
 * @property {string|null} job
 * @property {string|null} report the evaluation or comparison that is shown, as kind:id
 * @property {string|null} waits the image in quarantine that is looked at
 * @property {string|null} audit of labels
 * @property {string|null} kind of its findings
 * @property {string|null} decided what was decided on them, or `open`
 * @property {Start} start
 * @property {string|null} open the sealed number of a link, before it is opened
 * @property {Crop|null} crop
 * @property {number|null} frame of an own DICOM file, or the number of one of several files
 * @property {boolean} whole whether all frames of own files are compared
 * @property {string|null} words what is searched for beside the image
 * @property {number} weight how much they count, 0 to 1
 * @property {number} limit
 * @property {number|null} threshold
 * @property {number|null} closeness the least share of neighbours that agreed
 * @property {Object<string, Choice>} choices by field
 * @property {Object<string, Range>} ranges by field
 * @property {string|null} group the field whose images count as one
 * @property {boolean} same whether the searched image and its lesion are results too
 * @property {boolean} near
 * @property {string[]} like
 * @property {string[]} unlike
 */

export const DEFAULT_LIMIT = 12;
export const DEFAULT_WEIGHT = 0.5;

const COLLECTED = ["series", "study", "accession"];

/** @returns {State} */
export const emptyState = () => ({
  view: "search",
  job: null,
  report: null,
  waits: null,
  audit: null,
  kind: null,
  decided: null,
  start: null,
  open: null,
  crop: null,
  frame: null,
  whole: false,
  words: null,
  weight: DEFAULT_WEIGHT,
  limit: DEFAULT_LIMIT,
  threshold: null,
  closeness: null,
  choices: {},
  ranges: {},
  group: null,
  same: false,
  near: false,
  like: [],
  unlike: [],
});

/** @param {string} search such as location.search @returns {State} */
export function parse(search) {
  const given = new URLSearchParams(search);
  const state = emptyState();
  state.view = ["jobs", "quality", "quarantine", "labels"].find((view) => view === given.get("view")) ?? "search";
  state.job = given.get("job");
  state.report = given.get("report");
  state.waits = given.get("waits");
  for (const name of ["audit", "kind", "decided"]) state[name] = given.get(name);
  state.open = given.get("open");
  state.start = parseStart(given);
  if (given.has("frame")) state.frame = toNumber(given.get("frame"));
  state.whole = given.has("whole");
  if (given.has("crop")) {
    const [left, top, width, height] = given.get("crop").split(",").map(toNumber);
    state.crop = { left, top, width, height };
  }
  state.words = given.get("words") || null;
  if (given.has("weight")) state.weight = toNumber(given.get("weight"));
  if (given.has("limit")) state.limit = toNumber(given.get("limit"));
  if (given.has("threshold")) state.threshold = toNumber(given.get("threshold"));
  if (given.has("closeness")) state.closeness = toNumber(given.get("closeness"));
  for (const kind of ["only", "not"]) {
    for (const item of given.getAll(kind)) {
      const [field, value] = cut(item);
      (state.choices[field] ??= { only: [], not: [] })[kind].push(parseValue(value));
    }
  }
  for (const item of given.getAll("range")) {
    const [field, span] = cut(item);
    const [least, most = ""] = span.split("..");
    state.ranges[field] = { least: toBound(least), most: toBound(most) };
  }
  state.group = given.get("group");
  state.same = given.has("same");
  state.near = given.has("near");
  state.like = given.getAll("like");
  state.unlike = given.getAll("unlike");
  return state;
}

/** @param {State} state @returns {string} the address, relative to the page */
export function format(state) {
  const out = new URLSearchParams();
  const set = (name, value) => value !== null && value !== undefined && out.append(name, value);
  if (state.view !== "search") {
    out.set("view", state.view);
    if (state.view === "jobs") set("job", state.job);
    else if (state.view === "quality") set("report", state.report);
    else if (state.view === "labels")
      for (const name of ["audit", "kind", "decided"]) set(name, state[name]);
    else set("waits", state.waits);
    return `./?${out}`;
  }
  if (state.start?.kind === "stored") out.set("image", state.start.id);
  if (state.start?.kind === "picture") out.set("picture", "own");
  if (state.start?.kind === "text") out.set("text", state.start.text);
  if (state.start?.kind === "collected")
    for (const key of state.start.keys) out.append(state.start.by, key);
  if (state.open) out.set("open", state.open);
  set("frame", state.frame);
  if (state.whole) out.set("whole", "yes");
  if (state.crop) {
    const { left, top, width, height } = state.crop;
    out.set("crop", [left, top, width, height].map(short).join(","));
  }
  set("words", state.words);
  if (state.words && state.weight !== DEFAULT_WEIGHT) set("weight", state.weight);
  if (state.limit !== DEFAULT_LIMIT) set("limit", state.limit);
  set("threshold", state.threshold);
  set("closeness", state.closeness);
  for (const [field, choice] of Object.entries(state.choices)) {
    for (const kind of ["only", "not"]) {
      for (const value of choice[kind]) out.append(kind, `${field}:${formatValue(value)}`);
    }
  }
  for (const [field, { least, most }] of Object.entries(state.ranges)) {
    if (least !== null || most !== null)
      out.append("range", `${field}:${least ?? ""}..${most ?? ""}`);
  }
  set("group", state.group);
  if (state.same) out.set("same", "yes");
  if (state.near) out.set("near", "yes");
  for (const id of state.like) out.append("like", id);
  for (const id of state.unlike) out.append("unlike", id);
  const query = String(out);
  return query ? `./?${query}` : "./";
}

function parseStart(given) {
  if (given.has("image")) return { kind: "stored", id: given.get("image") };
  if (given.has("text")) return { kind: "text", text: given.get("text") };
  if (given.has("picture")) return { kind: "picture" };
  for (const by of COLLECTED) {
    if (given.has(by)) return { kind: "collected", by, keys: given.getAll(by) };
  }
  return null;
}

/** Splits an item at its first colon, which ends the field's name. */
function cut(item) {
  const colon = item.indexOf(":");
  return colon < 0 ? [item, ""] : [item.slice(0, colon), item.slice(colon + 1)];
}

// Most values are strings and are written unchanged. Numbers and booleans follow an equals sign, as
// in site:=3, and so does a string that begins with one.
function formatValue(value) {
  return typeof value === "string" && !value.startsWith("=") ? value : `=${JSON.stringify(value)}`;
}

function parseValue(text) {
  if (!text.startsWith("=")) return text;
  try {
    return JSON.parse(text.slice(1));
  } catch {
    return text;
  }
}

const toNumber = (text) => (text?.trim() ? Number(text) : NaN);
const toBound = (text) => (text === "" ? null : toNumber(text));

/** Rounds to four decimals, which is finer than a pixel of any image shown here. */
const short = (fraction) => String(Math.round(fraction * 1e4) / 1e4);
