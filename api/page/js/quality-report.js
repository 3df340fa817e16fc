// Draws the report of an evaluation: what it means first, then the numbers beside their baselines.

import { nameOf } from "./about.js";
import { h } from "./dom.js";
import { barPlot, figure, heatMap, linePlot, percent, ranged, table, wideTable } from "./plots.js";
import { capital, counted, fieldNoun, similarity, valueLabel } from "./words.js";

/** What each metric says, in the order of the table. */
export const METRICS = {
  precision_at_1: "The nearest image agrees (P@1)",
  precision_at_5: "Of the 5 nearest, the share that agrees (P@5)",
  precision_at_10: "Of the 10 nearest, the share that agrees (P@10)",
  map_at_10: "The same, and those that agree stand first (mAP@10)",
  ndcg_at_10: "The same, the first places weighing more (nDCG@10)",
  balanced_accuracy: "The vote of the 10 nearest is right",
};

const RANKINGS = {
  histogram: "Colours alone",
  "embedding, within the sample": "This encoder, within the sample",
  chance: "Chance",
  constant: "Constant guess",
};

const LEFT_OUT = {
  "no label": "nothing is recorded to compare",
  "alone with its label": "no image of another group has the same label",
};

/** @param {{name: string}} ranking @param {number} number its place; the first is the encoder's */
const rankingName = ({ name }, number) =>
  number === 0 ? "This encoder" : (RANKINGS[name] ?? capital(name.replaceAll("_", " ")));

/** @param {object} report as the api sends it @returns {Node[]} */
export function drawReport(report) {
  const { label } = report.request;
  const noun = fieldNoun(label);
  const names = report.rankings.map(rankingName);
  return [
    inWords(report, noun),
    metricsTable("Over all images", "Every image counts alike, so the frequent classes decide.", report.rankings, names, "overall"),
    metricsTable("Mean over classes", `Every ${noun} counts alike, the rare ones as much as the frequent. Look here first if you search for what is rare.`, report.rankings, names, "macro"),
    byClass(report, label, noun),
    report.confusion.labels.length > 1 && confusion(report.confusion, label, noun),
    report.thresholds.length > 1 && thresholds(report.thresholds, noun),
    report.calibration.length > 0 && calibration(report.calibration, label, noun),
    sameGroup(report),
    howMeasured(report),
  ].filter(Boolean);
}

// --- what it means -------------------------------------------------------------------------------

function inWords({ rankings, request, evaluated, images, groups }, noun) {
  const [own, ...others] = rankings;
  const metric = "precision_at_10";
  const tenth = own.overall[metric];
  const said = others
    .filter(({ overall }) => overall[metric]?.value != null)
    .map((ranking, n) => `${rankingName(ranking, n + 1).toLowerCase()} ${percent(ranking.overall[metric].value)}`);
  const without = hasGroup(request)
    ? `Other images of the same ${fieldNoun(request.group)} were left out, since they would only confirm themselves.`
    : "Nothing of the same group was left out, since none was named: images of one patient can confirm each other, and the numbers can be too good.";
  return h(
    "div",
    { class: "meaning" },
    h(
      "p",
      { class: "lead" },
      `Of the 10 most similar images, ${ranged(tenth)} share the ${noun} of the searched one. In brackets stands the interval of 95 %.`,
    ),
    said.length > 0 && h("p", {}, `For comparison: ${said.join(", ")}.`),
    h(
      "p",
      { class: "quiet" },
      `${counted(evaluated, "image")} of ${counted(groups, "group")} ${evaluated === 1 ? "was" : "were"} searched for among ${images.toLocaleString("en")}. ${without}`,
    ),
    h(
      "p",
      { class: "quiet" },
      `These numbers say how often similar images of this collection share a ${noun}. They do not say how often the ${noun} of a new patient would be found: another camera, another clinic and another mix of patients change them. Kindred gives no diagnosis.`,
    ),
  );
}

/** Whether images of one lesion or patient were told apart. `none`: somebody said that none are. */
export const hasGroup = ({ group }) => Boolean(group) && group !== "none";

// --- numbers -------------------------------------------------------------------------------------

function metricsTable(title, meaning, rankings, names, mean) {
  const known = Object.keys(METRICS).filter((metric) => rankings[0][mean][metric]?.value != null);
  const rows = known.map((metric) => [
    METRICS[metric],
    ...rankings.map((ranking) => ranged(ranking[mean][metric])),
  ]);
  return figure(title, meaning, wideTable(title, ["What is measured", ...names], rows));
}

function byClass({ rankings }, label, noun) {
  const [own, ...others] = rankings;
  if (!own.classes.length) return null;
  const marked = ["histogram", "chance"].flatMap((name) =>
    others.filter((ranking) => ranking.name === name && ranking.classes.length),
  );
  const metric = "precision_at_10";
  const classes = [...own.classes].sort((a, b) => b.held - a.held);
  const of = (ranking, name) =>
    ranking.classes.find((each) => each.label === name)?.metrics[metric]?.value ?? null;
  const bars = classes.map((each) => ({
    label: valueLabel(each.label, label),
    estimate: each.metrics[metric] ?? { value: null },
    note: `${ranged(each.metrics[metric])}, ${counted(each.images, "image")}`,
    others: marked.map((ranking) => of(ranking, each.label)),
  }));
  const names = marked.map((ranking) => RANKINGS[ranking.name]);
  const title = `Agreement by ${noun}`;
  return figure(
    title,
    `Of the 10 most similar images, the share with the ${noun} of the searched one. A long interval means that few were searched.`,
    barPlot({ title, axis: "share of the 10 nearest that agrees", bars, own: "This encoder, with its interval", others: names }),
    table(
      title,
      [capital(noun), "Searched", "Stored", "This encoder", ...names],
      classes.map((each, n) => [
        bars[n].label,
        each.images.toLocaleString("en"),
        each.held.toLocaleString("en"),
        ranged(each.metrics[metric]),
        ...bars[n].others.map(percent),
      ]),
    ),
  );
}

function confusion({ labels, shares }, label, noun) {
  const title = "What the neighbours show instead";
  return figure(
    title,
    `Each row is the ${noun} of the searched image; its numbers say what its 10 most similar images show, in per cent. The framed numbers agree.`,
    heatMap({
      title,
      corner: "Searched ↓\nNeighbours →",
      labels: labels.map((value) => valueLabel(value, label)),
      shares,
    }),
  );
}

function thresholds(all, noun) {
  const title = "What a least similarity would do";
  return figure(
    title,
    `The higher the least similarity, the more of the found images agree, and the fewer searches find any.`,
    linePlot({
      title,
      x: "least similarity",
      y: "share",
      lines: [
        {
          name: `found images with the same ${noun}, with the interval`,
          band: true,
          points: all
            .filter(({ precision }) => precision.value !== null)
            .map(({ score, precision }) => ({ x: score, y: precision.value, low: precision.low, high: precision.high })),
        },
        {
          name: "searches that find an image",
          points: all.map(({ score, coverage }) => ({ x: score, y: coverage })),
        },
      ],
    }),
    table(
      title,
      ["Least similarity", "Agree", "Searches that find an image"],
      all.map(({ score, precision, coverage }) => [similarity(score), ranged(precision), percent(coverage)]),
    ),
  );
}

function calibration(all, label, noun) {
  const title = "What a similarity means";
  const whole = all.find((each) => each.label === null) ?? all[0];
  const rows = all.flatMap((each) =>
    each.points.map((point) => [
      each.label === null ? "all" : valueLabel(each.label, label),
      similarity(point.score),
      ranged({ value: point.share, low: point.low, high: point.high }),
      point.neighbours.toLocaleString("en"),
    ]),
  );
  return figure(
    title,
    `Of images with about this similarity, the share with the ${noun} of the searched one, with its interval. It holds for this collection and this encoder.`,
    linePlot({
      title,
      x: "similarity",
      y: `share with the same ${noun}`,
      lines: [{ name: "all", band: true, points: whole.points.map(({ score, share, low, high }) => ({ x: score, y: share, low, high })) }],
    }),
    table(title, [capital(noun), "Similarity", "Agree", "Neighbours"], rows),
  );
}

function sameGroup({ same_group: found, request }) {
  if (!found || !Object.keys(found).length) return null;
  const noun = fieldNoun(request.group ?? "group");
  const title = `Other images of the same ${noun}`;
  const rows = [1, 5, 10].map((depth) => [
    `among the ${depth} nearest`,
    ranged(found[`recall_at_${depth}`]),
    ranged(found[`any_at_${depth}`]),
  ]);
  return figure(
    title,
    `Where a ${noun} has several images and none is left out. This says how well the same ${noun} is recognised, and nothing of the diagnosis.`,
    wideTable(title, ["Found", "Share of the others", "Searches that find one"], rows),
  );
}

// --- how it was measured -------------------------------------------------------------------------

function howMeasured(report) {
  const { near_duplicates: near, left_out: left, notes, seconds, encoder, request } = report;
  const facts = [
    near && nearDuplicates(near),
    ...Object.entries(left)
      .filter(([, count]) => count > 0)
      .map(([reason, count]) => `${counted(count, "image")} left out: ${LEFT_OUT[reason] ?? reason.replaceAll("_", " ")}.`),
    request.sample && `A sample of at most ${request.sample.toLocaleString("en")} images was searched for.`,
    request.filter && "Only images that match a filter took part.",
    ...notes,
    `Encoder ${nameOf(encoder.model)}, ${encoder.dimensions} dimensions, weights ${encoder.weights_sha256.slice(0, 12)}.`,
    `Computed in ${total(seconds)}.`,
  ].filter(Boolean);
  return figure("How this was measured", "", h("ul", { class: "points" }, facts.map((text) => h("li", {}, text))));
}

const nearDuplicates = ({ pairs, other_label: differing, treatment }) =>
  pairs === 0
    ? "No near-duplicates were found in different groups."
    : `${counted(pairs, "pair")} of near-duplicates in different groups, ${differing} with another label: ${treatment === "keep" ? "kept" : "left out"}.`;

const total = (seconds) =>
  `${Object.values(seconds).reduce((sum, each) => sum + each, 0).toFixed(1)} s`;
