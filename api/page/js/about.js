// Says which encoder compares the images, in which version, and whether it was trained.

import { byId, fill, h } from "./dom.js";

/**
 * @typedef {object} Collection as the api describes it
 * @property {{model: string, revision: string|null, weights_sha256: string}} encoder
 * @property {boolean} [untrained] missing if the worker is older
 */

/** @param {Collection} collection */
export function drawAbout({ encoder, untrained }) {
  const { model, revision, weights_sha256: weights } = encoder;
  fill(
    byId("about"),
    "Images are compared by the encoder ",
    h("strong", { title: model }, nameOf(model)),
    `, ${revision ? `revision ${revision}` : "no fixed revision"}, weights `,
    h("code", { title: weights }, weights.slice(0, 12)),
    ". ",
    untrained
      ? h("strong", { class: "fault" }, "It was never trained: its weights are random.")
      : "Kindred cannot tell on which images it was trained.",
  );
  byId("about").hidden = false;
}

/** A folder has a path on the server, whose last part is enough. */
export const nameOf = (model) =>
  /^[/.~]/.test(model) ? model.split("/").filter(Boolean).at(-1) : model;
