// One image in quarantine: the whole picture, where names may stand, and what can become of it.

import { fill, h } from "./dom.js";
import { here } from "./here.js";
import { factList } from "./facts.js";
import { installMasks } from "./masks.js";
import { Problem, post } from "./server.js";
import { capital, explain, sentence } from "./words.js";

const path = (id) => `/v1/quarantine/${encodeURIComponent(id)}`;

/**
 * @param {HTMLElement} container
 * @param {object} image as the api sends it
 * @param {(done: "released"|"refused") => void} onDone
 */
export function showWithheld(container, image, onDone) {
  let masks = [];
  const frame = h(
    "div",
    { class: "mask-frame" },
    h("img", {
      src: here(`${path(image.image_id)}/picture`),
      alt: "The picture that waits",
      width: image.width,
      height: image.height,
      draggable: "false",
    }),
  );
  // Small pictures are enlarged, and the foot of a tall one stays in sight.
  frame.style.width = `min(100%, 52rem, ${(60 * image.width) / image.height}vh)`;
  const tools = h("div", { class: "mask-tools" });
  const fault = h("p", { class: "fault", role: "alert", hidden: true });
  const asIs = h("button", { onclick: () => release([]) }, "Release as it is");
  const masked = h("button", { class: "primary", onclick: () => release(masks) }, "Mask and release");
  const refuse = h("button", { class: "danger", onclick: () => ask(true) }, "Refuse…");
  const buttons = h("div", { class: "buttons" }, masked, asIs, refuse);
  const sure = h("button", { class: "danger", onclick: refuseIt }, "Delete this image");
  const question = h(
    "div",
    { class: "buttons", role: "group", "aria-label": "Refuse this image", hidden: true },
    h("span", {}, "Its picture is deleted, and the same picture is rejected from now on."),
    sure,
    h("button", { onclick: () => ask(false) }, "Keep it"),
  );
  fill(
    container,
    h("h2", { id: "withheld-title" }, `It waits because ${image.reason}`),
    h("div", { class: "mask-ground" }, frame),
    tools,
    image.releasing
      ? h("p", { role: "status" }, "It is being released. It leaves this list when it is stored.")
      : [buttons, question],
    fault,
    factList(image.metadata, [
      ["Since", time(image.time)],
      ["Image", image.image_id],
    ]),
  );
  installMasks(frame, tools, {
    width: image.width,
    height: image.height,
    masks: image.rectangles,
    onChange: (next) => {
      masks = next;
      masked.disabled = !masks.length;
    },
  });

  const release = (rectangles) => act("release", { rectangles }, "released");

  function refuseIt() {
    return act("refuse", {}, "refused");
  }

  function ask(on) {
    question.hidden = !on;
    buttons.hidden = on;
    (on ? sure : refuse).focus();
  }

  /** One at a time; what goes wrong stands below the buttons, which can be pressed again. */
  async function act(action, body, done) {
    const all = [...container.querySelectorAll(".buttons button")].filter((each) => !each.disabled);
    for (const each of all) each.disabled = true;
    fault.hidden = true;
    try {
      await post(`${path(image.image_id)}/${action}`, body);
      onDone(done);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      fault.textContent = error.detail ? sentence(error) : explain(error).text;
      fault.hidden = false;
      for (const each of all) each.disabled = false;
    }
  }
}

export const time = (text) =>
  new Date(text).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });

export const shortly = (reason) => capital(reason.replace(/^it is /, "").split(",")[0]);
