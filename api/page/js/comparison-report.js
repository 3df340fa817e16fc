// Draws the report of a comparison of encoders.

import { h } from "./dom.js";
import { figure, ranged, wideTable } from "./plots.js";
import { METRICS } from "./quality-report.js";
import { capital, counted, fieldNoun } from "./words.js";

/** @param {object} report as the api sends it @returns {Node[]} */
export function drawComparison(report) {
  const noun = fieldNoun(report.request.label);
  return [
    h(
      "div",
      { class: "meaning" },
      report.pairs.map((pair) => h("p", { class: "lead" }, inWords(pair, noun))),
      h(
        "p",
        { class: "quiet" },
        `All encoders saw the same ${counted(report.images, "image")} of ${counted(report.groups, "group")}, as searched images and as neighbours. Nothing of the collection was changed.`,
      ),
    ),
    models(report),
    ...report.pairs.map((pair) => differences(pair)),
    figure("How this was measured", "", h("ul", { class: "points" }, report.notes.map((text) => h("li", {}, text)))),
  ];
}

/** Below this, chance explains a difference too rarely to be the reason. */
const SIGNIFICANT = 0.05;

function inWords({ first, other, macro, overall }, noun) {
  const change = macro.precision_at_10 ?? overall.precision_at_10;
  const [better, worse] = (change.value >= 0 ? [other, first] : [first, other]).map(spoken);
  if (change.p > SIGNIFICANT)
    return `${capital(spoken(other))} and ${spoken(first)} do not differ beyond chance: of the 10 most similar images, ${points(change)} share the ${noun} (p = ${p(change.p)}).`;
  const size = Math.abs(change.value);
  return `${capital(better)} finds more images of the same ${noun} than ${worse}: ${(size * 100).toFixed(1)} more of 100 among the 10 most similar, each ${noun} weighing alike (p = ${p(change.p)}).`;
}

/** The collection's own encoder has no other name here. */
const spoken = (name) => (name === "collection" ? "the encoder in use" : name);

function models({ models: all }) {
  const rows = all.map(({ name, encoder, untrained, weights_bytes: bytes, images_per_second: speed, ranking }) => [
    untrained ? `${name} (untrained)` : name,
    ranged(ranking.overall.precision_at_10),
    ranged(ranking.macro.precision_at_10),
    speed == null ? "stored" : speed.toFixed(1),
    String(encoder.dimensions),
    `${(bytes / 1e6).toFixed(0)} MB`,
    encoder.pooling,
  ]);
  const header = ["Encoder", "Of the 10 nearest agree", "Mean over classes", "Images a second", "Dimensions", "Weights", "Pooling"];
  return wide("The encoders", "In brackets stands the interval of 95 %.", header, rows);
}

function differences({ first, other, overall, macro }) {
  const rows = Object.keys(METRICS)
    .filter((metric) => overall[metric] || macro[metric])
    .map((metric) => [METRICS[metric], ...cells(overall[metric]), ...cells(macro[metric])]);
  return wide(
    `${other} less ${first}`,
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
const p = (value) => (value < 0.001 ? "< 0.001" : value.toFixed(3));

