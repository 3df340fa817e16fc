// Lists the files of a job that are not among its images: the rejected and the skipped ones.

import { fill, h } from "./dom.js";
import { skipped, skippedLine } from "./job-words.js";
import { Problem, callJson, pause } from "./server.js";
import { fileName } from "./upload.js";
import { rejection, valueLabel } from "./words.js";

const ROWS = 25;

/** In milliseconds, until a list that the server did not send is asked for again. */
const RETRY_DELAY = 2000;

/** Two lists that follow the numbers of a job. */
export class FileLists {
  #rejected = h("div");
  #skipped = h("div");
  #signal;
  #shown = { rejected: 0, skipped: null };

  /** @param {Element} container @param {AbortSignal} signal ends all loading */
  constructor(container, signal) {
    this.#signal = signal;
    fill(container, this.#rejected, this.#skipped);
  }

  /** Draws what has changed. @param {import("./job-words.js").Job} job */
  draw(job) {
    const now = { rejected: job.rejected, skipped: skippedLine(job) };
    const before = this.#shown;
    this.#shown = now;
    if (now.rejected !== before.rejected) this.#drawRejected(job);
    if (now.skipped !== before.skipped) this.#drawSkipped(job);
  }

  #drawRejected(job) {
    if (!job.rejected) return fill(this.#rejected);
    const table = this.#table(job, "rejections", {
      caption: "Rejected images",
      more: "More rejected images",
      columns: ["Row", "Image", "Why"],
      cells: (one) => [String(one.row + 1), named(job, one), rejection(one.reason, job.source)],
    });
    return this.#load(table, this.#rejected, () => this.#shown.rejected === job.rejected);
  }

  /** Shows how many, and their names once somebody wants to see them. */
  #drawSkipped(job) {
    if (!skipped(job).length) return fill(this.#skipped);
    const list = h("div");
    const table = this.#table(job, "skipped", {
      caption: "Skipped files",
      more: "More skipped files",
      columns: ["File", "Why"],
      cells: (one) => [one.name, valueLabel(one.kind)],
    });
    const onOpen = ({ target }) =>
      target.open && !list.childElementCount && this.#load(table, list, () => list.isConnected);
    const details = h("details", { class: "skipped", ontoggle: onOpen });
    details.append(h("summary", {}, skippedLine(job)), list);
    return fill(this.#skipped, details);
  }

  /** Loads a first page, and shows the table unless the number has changed meanwhile. */
  async #load({ element, next }, container, isCurrent) {
    while (isCurrent()) {
      try {
        await next(0);
        if (isCurrent()) fill(container, element);
        return;
      } catch (error) {
        if (!(error instanceof Problem)) return; // the view was left
        if (!error.passing) return;
        await pause(RETRY_DELAY, this.#signal).catch(() => {});
        if (this.#signal.aborted) return;
      }
    }
  }

  #table(job, list, { caption, more: word, columns, cells }) {
    const rows = h("tbody");
    const more = h("button", { dataset: { key: list }, hidden: true }, word);
    const heads = columns.map((name) => h("th", { scope: "col" }, name));
    const table = h("table", {}, h("caption", {}, caption), h("thead", {}, h("tr", {}, heads)), rows);
    const path = `/v1/jobs/${encodeURIComponent(job.id)}/${list}`;
    const next = async (cursor) => {
      more.hidden = true;
      const query = `limit=${ROWS}&cursor=${encodeURIComponent(cursor)}`;
      const page = await callJson(`${path}?${query}`, { signal: this.#signal });
      const row = (one) => h("tr", {}, cells(one).map((text) => h("td", {}, text)));
      rows.append(...page[list].map(row));
      more.hidden = page.cursor === null;
      more.onclick = () => next(page.cursor).catch(() => (more.hidden = false));
    };
    return { element: h("div", {}, table, more), next };
  }
}

/** The name of the file. Where the server keeps none, this tab still knows those that it has sent. */
const named = (job, { row, name, image_id: imageId }) =>
  name ?? fileName(job, row) ?? shortId(imageId);

/** Shortens an id that is the hash of an image's bytes; other ids stay whole. */
const shortId = (id) => (/^[0-9a-f]{64}$/.test(id) ? `${id.slice(0, 12)}…` : id);
