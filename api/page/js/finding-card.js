// One finding of a label audit: its pictures with their labels, what speaks for it, and the decision.

import { announce, fill, h } from "./dom.js";
import { here } from "./here.js";
import { Problem } from "./server.js";
import { time } from "./withheld.js";
import { explain, sentence, similarity, valueLabel } from "./words.js";

const TITLES = {
  conflicting_copies: "Same picture, different labels",
  unlike_neighbours: "Neighbours disagree with the label",
  copies: "Same picture under several ids",
};

const DONE = { confirmed: "Confirmed", dismissed: "Dismissed" };

/**
 * @param {object} finding as the api sends it
 * @param {string} field whose values are the labels
 * @param {(action: "confirm"|"dismiss"|"undo") => Promise<object>} decide resolves to the finding
 * @returns {HTMLElement}
 */
export function findingCard(finding, field, decide) {
  const card = h("li", { class: "finding", dataset: { id: finding.id } });
  draw(card, finding, field, decide);
  return card;
}

function draw(card, finding, field, decide) {
  const title = h("h3", {}, `${TITLES[finding.kind]} `, h("span", { class: "quiet" }, `no. ${finding.rank}`));
  const images = [...finding.images, ...finding.neighbours];
  const pictures = images.map((image, number) => picture(image, finding, field, number));
  const own = h("ul", { class: "finding-images" }, pictures.slice(0, finding.images.length));
  const others = finding.neighbours.length
    ? h("ul", { class: "finding-neighbours", "aria-label": "Its neighbours" }, pictures.slice(finding.images.length))
    : null;
  fill(card, title, h("p", {}, evidence(finding, field)), h("div", { class: "finding-row" }, own, others), decision(card, finding, field, decide));
}

function picture(image, finding, field, number) {
  const label = valueLabel(image.label, field);
  const score = image.similarity === undefined ? null : `similarity ${similarity(image.similarity)}`;
  return h(
    "li",
    {},
    h(
      "a",
      { href: `./?image=${encodeURIComponent(image.image_id)}`, "data-inside": true, title: image.image_id },
      h("img", { src: here(path(finding.preview_urls[number])), alt: `Labelled ${label}`, loading: "lazy", width: 160, height: 120 }),
    ),
    h("strong", {}, label),
    score && h("span", { class: "quiet" }, score),
    number < finding.images.length && h("span", { class: "quiet image-id" }, image.image_id),
  );
}

/** Without what a proxy puts before it, which `here` adds again. */
const path = (url) => url.slice(url.indexOf("/v1/"));

function evidence(finding, field) {
  if (finding.kind === "unlike_neighbours") {
    const agree = finding.neighbours.filter((each) => each.label === finding.suggested).length;
    const other = valueLabel(finding.suggested, field);
    return `None of the ${finding.neighbours.length} images most similar to it has its label; ${agree} are labelled ${other}. Its copies, and images of its lesion or patient, are left out. Evidence ${finding.evidence.toFixed(2)} of 1.`;
  }
  if (finding.same_bytes) return "The files are the same, byte for byte.";
  const bits = finding.hash_distance === null ? "" : `; ${finding.hash_distance} of 256 bits of their hashes differ`;
  return `Nearly the same picture: similarity ${similarity(finding.evidence)}${bits}.`;
}

function decision(card, finding, field, decide) {
  const fault = h("p", { class: "fault", role: "alert", hidden: true });
  const button = (action, text, kind = "") =>
    h("button", { class: kind, dataset: { key: `${finding.id} ${action}` }, onclick: () => act(action) }, text);
  const done = finding.decision;
  const part = done
    ? h(
        "p",
        { class: "buttons" },
        h("span", { class: "state" }, DONE[done.verdict]),
        " ",
        h("span", { class: "quiet" }, `by key ${done.by}, ${time(done.at)}`),
        button("undo", "Undo", "link"),
      )
    : h(
        "p",
        { class: "buttons" },
        button("confirm", "Confirm"),
        button("dismiss", "Dismiss"),
      );
  return [part, fault];

  async function act(action) {
    for (const each of part.querySelectorAll("button")) each.disabled = true;
    try {
      const after = await decide(action);
      draw(card, after, field, decide);
      card.querySelector(".buttons button").focus();
      announce(after.decision ? DONE[after.decision.verdict] : "Open again");
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      fault.textContent = error.detail ? sentence(error) : explain(error).text;
      fault.hidden = false;
      for (const each of part.querySelectorAll("button")) each.disabled = false;
    }
  }
}
