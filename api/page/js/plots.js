// Draws plots as SVG: bars, lines with a band, and a table of shares. Each plot is as wide as its
// place, so that its text keeps its size, and has its numbers in a table as well.

import { fill, h } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";

/** In pixels. */
const LEFT = 50;
const RIGHT = 12;
const TOP = 8;
const WIDEST = 620;
/** Below this there is no room for a name and a note in one line. */
const NARROW = 440;
const ROW = 46;

/**
 * @typedef {{value: number|null, low?: number|null, high?: number|null}} Estimate
 * @typedef {{label: string, estimate: Estimate, note?: string, others: (number|null)[]}} Bar
 * @typedef {{x: number, y: number, low?: number|null, high?: number|null}} Point
 * @typedef {{name: string, points: Point[], band?: boolean}} Line
 */

/** A share as doctors read it: 0.634 is 63 %. @param {number|null|undefined} value */
export const percent = (value) => (value == null ? "–" : `${Math.round(value * 100)} %`);

/** @param {Estimate|undefined} estimate @returns {string} such as "63 % (58–68)" */
export function ranged(estimate) {
  if (estimate?.value == null) return "–";
  const { value, low, high } = estimate;
  if (low == null || high == null) return percent(value);
  return `${percent(value)} (${Math.round(low * 100)}–${Math.round(high * 100)})`;
}

/**
 * A plot with its title, what it says, and its numbers.
 * @param {string} title
 * @param {string} meaning one or two sentences
 * @param {Node} plot
 * @param {Node|null} [table] the same numbers; null if the plot is a table itself
 */
export const figure = (title, meaning, plot, table = null) =>
  h(
    "figure",
    { class: "plot" },
    h("figcaption", {}, h("h3", {}, title), h("p", {}, meaning)),
    plot,
    table && h("details", {}, h("summary", {}, "The numbers"), h("div", { class: "wide" }, table)),
  );

/**
 * @param {string} caption
 * @param {string[]} header
 * @param {(string|Node)[][]} rows of which the first cell names the row
 */
export const table = (caption, header, rows) =>
  h(
    "table",
    { class: "numbers" },
    h("caption", { class: "unseen" }, caption),
    h("thead", {}, h("tr", {}, header.map((text) => h("th", { scope: "col" }, text)))),
    h(
      "tbody",
      {},
      rows.map(([first, ...rest]) =>
        h("tr", {}, h("th", { scope: "row" }, first), rest.map((cell) => h("td", {}, cell))),
      ),
    ),
  );

/**
 * Bars from 0 to 100 %, each below its name, with its interval; and marks of other ways to rank.
 * @param {{title: string, axis: string, bars: Bar[], own: string, others: string[]}} plot `others`
 *   names the marks of each bar, in their order
 */
export function barPlot({ title, axis, bars, own, others }) {
  const height = TOP + bars.length * ROW + 40;
  const legend = h(
    "p",
    { class: "legend" },
    key("bar-key", own),
    others.map((name, number) => key(`mark-key mark-${number}`, name)),
  );
  return h("div", {}, legend, fluid(height, title, (width) => {
    const at = (share) => 1 + share * (width - RIGHT - 1);
    return [
      ...vertical(at, height - 38, (share) => percent(share)),
      text(at(0.5), height - 4, axis, "middle"),
      ...bars.flatMap((bar, number) => drawBar(bar, TOP + number * ROW, at, width < NARROW)),
    ];
  }));
}

function drawBar({ label, estimate, note, others }, top, at, narrow) {
  const middle = top + 29;
  const { value, low, high } = estimate;
  const said = narrow ? ranged(estimate) : (note ?? ranged(estimate));
  const whole = [
    text(1, top + 14, label, "start", narrow ? "" : "strong"),
    text(at(1), top + 14, said, "end"),
  ];
  if (value === null) return whole;
  whole.push(s("rect", { x: at(0), y: middle - 7, width: at(value) - at(0), height: 14, class: "plot-bar" }));
  if (low != null && high != null) {
    whole.push(s("path", { class: "whisker", d: `M${at(low)} ${middle}H${at(high)}M${at(low)} ${middle - 5}v10M${at(high)} ${middle - 5}v10` }));
  }
  others.forEach((other, number) => {
    if (other !== null) whole.push(mark(at(other), middle, number));
  });
  return whole;
}

/** A mark whose shape alone tells it from others. */
function mark(x, y, number) {
  if (number === 0) return s("path", { class: "mark-0", d: `M${x} ${y - 7}l6 7l-6 7l-6 -7z` });
  return s("path", { class: "mark-1", d: `M${x} ${y - 10}v20` });
}

const key = (kind, name) => h("span", {}, h("span", { class: `key ${kind}`, "aria-hidden": "true" }), name);

/**
 * Lines over one axis, from 0 to 100 % upwards.
 * @param {{title: string, x: string, y: string, lines: Line[], height?: number}} plot
 */
export function linePlot({ title, x, y, lines: given, height = 260 }) {
  const lines = given.map((line) => ({ ...line, points: withoutStraggler(line.points) }));
  const all = lines.flatMap(({ points }) => points);
  const [least, most] = span(all.map((point) => point.x));
  const base = height - 40;
  const up = (share) => base - share * (base - TOP - 16);
  const legend = h(
    "p",
    { class: "legend" },
    lines.map(({ name }, number) => key(`line-key line-${number}`, name)),
  );
  return h("div", {}, lines.length > 1 && legend, fluid(height, title, (width) => {
    const along = (value) => LEFT + ((value - least) / (most - least)) * (width - LEFT - RIGHT);
    return [
      text(0, TOP + 6, y, "start"),
      ...horizontal(up, width),
      ...ticks(least, most).flatMap((value) => [
        s("path", { class: "axis-tick", d: `M${along(value)} ${base}v5` }),
        text(along(value), base + 18, short(value), "middle"),
      ]),
      text((LEFT + width - RIGHT) / 2, height - 3, x, "middle"),
      ...lines.flatMap((line, number) => drawLine(line, number, along, up)),
    ];
  }));
}

function drawLine({ points, band }, number, along, up) {
  const path = (list) => list.map(([px, py], n) => `${n ? "L" : "M"}${px} ${py}`).join("");
  const drawn = [];
  const banded = points.filter(({ low, high }) => low != null && high != null);
  if (band && banded.length > 1) {
    const there = banded.map((point) => [along(point.x), up(point.high)]);
    const back = banded.map((point) => [along(point.x), up(point.low)]).reverse();
    drawn.push(s("path", { class: "band", d: `${path([...there, ...back])}z` }));
  }
  const line = points.map((point) => [along(point.x), up(point.y)]);
  drawn.push(s("path", { class: `line line-${number}`, d: path(line) }));
  if (points.length < 25) {
    line.forEach(([cx, cy]) => drawn.push(s("circle", { class: `dot line-${number}`, cx, cy, r: 3 })));
  }
  return drawn;
}

/**
 * A table of shares, shaded by their size. The numbers say all that the shades say.
 * @param {{title: string, corner: string, labels: string[], shares: number[][]}} map
 */
export function heatMap({ title, corner, labels, shares }) {
  const cells = (row) =>
    row.map((share, column) => {
      const cell = h("td", {}, String(Math.round(share * 100)));
      cell.style.setProperty("--share", `${Math.round(share * 55)}%`);
      return [cell, column];
    });
  const body = shares.map((row, number) =>
    h(
      "tr",
      {},
      h("th", { scope: "row" }, labels[number]),
      cells(row).map(([cell, column]) => {
        if (column === number) cell.classList.add("same");
        return cell;
      }),
    ),
  );
  return h(
    "div",
    { class: "wide", tabindex: "0", role: "region", "aria-label": title },
    h(
      "table",
      { class: "heat" },
      h("caption", { class: "unseen" }, title),
      h("thead", {}, h("tr", {}, h("td", { class: "corner" }, corner), labels.map((label) => h("th", { scope: "col" }, label)))),
      h("tbody", {}, body),
    ),
  );
}

/** A table that scrolls by itself where it is wider than its place. */
export const wideTable = (title, header, rows) =>
  h(
    "div",
    { class: "wide", tabindex: "0", role: "region", "aria-label": title },
    table(title, header, rows),
  );

// --- the parts -----------------------------------------------------------------------------------

/** A drawing that is made anew when its place gets another width. */
function fluid(height, title, draw) {
  const place = h("div", { class: "fluid" });
  let drawn = 0;
  const redraw = () => {
    const width = Math.min(place.clientWidth, WIDEST);
    if (!width || width === drawn) return;
    drawn = width;
    const svg = s("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${title}. The numbers follow as a table.` });
    svg.append(...draw(width));
    fill(place, svg);
  };
  new ResizeObserver(redraw).observe(place);
  return place;
}

function s(tag, properties) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(properties)) element.setAttribute(name, String(value));
  return element;
}

function text(x, y, content, anchor, kind = "") {
  const element = s("text", { x, y, "text-anchor": anchor, class: kind });
  element.textContent = content;
  return element;
}

const QUARTERS = [0, 0.25, 0.5, 0.75, 1];

const horizontal = (up, width) =>
  QUARTERS.flatMap((share) => [
    s("path", { class: "grid-line", d: `M${LEFT} ${up(share)}H${width - RIGHT}` }),
    text(LEFT - 6, up(share) + 4, `${share * 100} %`, "end"),
  ]);

const vertical = (at, base, word) =>
  QUARTERS.flatMap((share) => [
    s("path", { class: "grid-line", d: `M${at(share)} ${TOP + 18}V${base}` }),
    text(at(share), base + 14, word(share), share === 0 ? "start" : share === 1 ? "end" : "middle"),
  ]);

/** Without a first point that lies so far before the others that these would share one spot. */
function withoutStraggler(points) {
  if (points.length < 5) return points;
  const [first, second, last] = [points[0].x, points[1].x, points.at(-1).x];
  return second - first > 0.8 * (last - first) ? points.slice(1) : points;
}

/** The least and the greatest value, apart even where there is one alone. */
function span(values) {
  const least = Math.min(...values);
  const most = Math.max(...values);
  return least < most ? [least, most] : [least - 0.05, most + 0.05];
}

/** Four to eight round values between two. */
function ticks(least, most) {
  const rough = (most - least) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough);
  const found = [];
  for (let n = Math.ceil(least / step); n * step <= most + step / 1e6; n += 1) found.push(n * step);
  return found;
}

const short = (value) => String(Number(value.toFixed(4)));
