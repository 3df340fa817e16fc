// Draws the report of a comparison of encoders.

import { nameOf } from "./about.js";
import { h } from "./dom.js";
import { figure, ranged, wideTable } from "./plots.js";
import { METRICS } from "./quality-report.js";
import { capital, counted, fieldNoun } from "./words.js";

/** @param {object} report as the api sends it @returns {Node[]} */
export function drawComparison(report) {
  const noun = fieldNoun(report.request.label);
  const names = spoken(report.models.map(({ name }) => name));
  return [
    h(
      "div",
      { class: "meaning" },
      report.pairs.map((pair) => h("p", { class: "lead" }, inWords(pair, noun, names))),
      h(
        "p",
        { class: "quiet" },
        `All encoders saw the same ${counted(report.images, "image")} of ${counted(report.groups, "group")}, as searched images and as neighbours. Nothing of the collection was changed.`,
      ),
    ),
    models(report, names),
    ...report.pairs.map((pair) => differences(pair, names)),
    figure("How this was measured", "", h("ul", { class: "points" }, report.notes.map((text) => h("li", {}, text)))),
  ];
}

/** Below this, chance explains a difference too rarely to be the reason. */
const SIGNIFICANT = 0.05;

function inWords({ first, other, macro, overall }, noun, names) {
  const change = macro.precision_at_10 ?? overall.precision_at_10;
  const [better, worse] = change.value >= 0 ? [other, first] : [first, other];
  if (change.p > SIGNIFICANT)
    return `${opening(names[other])} and ${names[first]} do not differ beyond chance: with the first, ${more(change.value)} of 100 similar images share the ${noun} (between ${more(change.low)} and ${more(change.high)}, p = ${p(change.p)}).`;
  const size = Math.abs(change.value);
  return `${opening(names[better])} finds more images of the same ${noun} than ${names[worse]}: ${(size * 100).toFixed(1)} more of 100 among the 10 most similar, each ${noun} weighing alike (p = ${p(change.p)}).`;
}

/** What each encoder is called: the last part of its path, unless another one ends so too. */
function spoken(all) {
  const short = all.map(nameOf);
  const isOnlyOne = (name) => short.filter((each) => each === name).length === 1;
  const said = all.map((name, n) => [name, isOnlyOne(short[n]) ? short[n] : name]);
  return { ...Object.fromEntries(said), collection: OWN };
}

/** The collection's own encoder has no other name here. */
const OWN = "the encoder in use";
const opening = (name) => (name === OWN ? capital(name) : name); // a name keeps its small letter

function models({ models: all }, names) {
  const rows = all.map(({ name, encoder, untrained, weights_bytes: bytes, images_per_second: speed, ranking }) => [
    h("span", { title: name }, `${opening(names[name])}${untrained ? " (untrained)" : ""}`),
    ranged(ranking.overall.precision_at_10),
    ranged(ranking.macro.precision_at_10),
    speed == null ? "stored" : speed.toFixed(1),
    String(encoder.dimensions),
    `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`,
    encoder.pooling,
  ]);
  const header = ["Encoder", "Of the 10 nearest agree", "Mean over classes", "Images a second", "Dimensions", "Weights", "Pooling"];
  return wide("The encoders", "In brackets stands the interval of 95 %.", header, rows);
}

function differences({ first, other, overall, macro }, names) {
  const rows = Object.keys(METRICS)
    .filter((metric) => overall[metric] || macro[metric])
    .map((metric) => [METRICS[metric], ...cells(overall[metric]), ...cells(macro[metric])]);
  return wide(
    `${opening(names[other])} less ${names[first]}`,
    "In points of 100. Above zero, the first named is better. p is how often chance alone makes a difference as large.",
    ["What is measured", "All images", "p", "Mean over classes", "p"],
    rows,
  );
}

const cells = (change) => (change ? [points(change), p(change.p)] : ["–", "–"]);

const wide = (title, meaning, header, rows) =>
  figure(title, meaning, wideTable(title, header, rows));

const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value * 100).toFixed(1)}`;
const points = ({ value, low, high }) => `${signed(value)} (${signed(low)} to ${signed(high)})`;
const more = (value) => `${Math.abs(value * 100).toFixed(1)} ${value < 0 ? "fewer" : "more"}`;
const p = (value) => (value < 0.001 ? "< 0.001" : value.toFixed(3));

