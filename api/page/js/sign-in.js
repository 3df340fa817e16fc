// Who is signed in: the form that asks for a key when the api answers 401, and the way out.

import { byId, showFault } from "./dom.js";
import { Problem, call, callJson, onUnauthorized } from "./server.js";

const REFUSALS = {
  401: "This key is not known here. Check it and try again.",
  403: "This key is not known here. Check it and try again.",
  404: "This server takes no sign-in here. Ask who runs it how to reach it.",
  405: "This server takes no sign-in here. Ask who runs it how to reach it.",
  422: "This key is not known here. Check it and try again.",
  429: "Too many attempts. Wait a moment and try again.",
};

let known = false;

/** Once it can be asked: who is signed in, and no way to what their key does not allow. */
export async function showSession() {
  if (known) return;
  try {
    const { role, name, keys } = await callJson("/v1/session");
    known = true;
    byId("session").hidden = !keys;
    byId("who").textContent = name;
    byId("jobs-link").hidden = role === "search";
  } catch (error) {
    if (!(error instanceof Problem)) throw error; // whatever else is asked says what is wrong
  }
}

/** Nothing of what was seen stays in this window: the page begins anew, and asks for a key. */
async function signOut() {
  try {
    await call("/v1/session", { method: "DELETE" });
    location.assign("/");
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    byId("sign-out").textContent = "Still signed in: try again";
  }
}

/** From now on, calls that are refused open the form and go on once it has been filled in. */
export function installSignIn() {
  const dialog = byId("sign-in");
  const key = byId("key");
  let settle = () => {};

  byId("sign-out").addEventListener("click", signOut);
  byId("sign-in-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const refusal = await signIn(key.value);
    showFault("key", refusal);
    if (refusal) return key.focus();
    key.value = "";
    known = false; // it may be another key than before
    showSession();
    dialog.close("in");
  });
  dialog.addEventListener("close", () => settle(dialog.returnValue === "in"));

  onUnauthorized(
    () =>
      new Promise((resolve) => {
        settle = resolve;
        dialog.returnValue = "";
        showFault("key");
        dialog.showModal();
        key.focus();
      }),
  );
}

/** @returns {Promise<string|null>} why not, or null */
async function signIn(key) {
  if (!key) return "Type in the key that you were given.";
  try {
    // Not by server.js: a refusal here must not open the form once more.
    const { ok, status } = await fetch("/v1/session", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ key }),
    });
    return ok ? null : (REFUSALS[status] ?? "Signing in did not work. Try again in a moment.");
  } catch {
    return "Kindred cannot be reached. Try again in a moment.";
  }
}
