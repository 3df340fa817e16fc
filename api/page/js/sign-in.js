// Signs users in and out: a form asks for a key when the api answers 401.

import { byId, showFault } from "./dom.js";
import { Problem, call, callJson, onUnauthorized } from "./server.js";

const REFUSALS = {
  401: "This key is not known here. Check it and try again.",
  403: "This key is not known here. Check it and try again.",
  404: "You cannot sign in at this address. Ask your administrator for the right one.",
  405: "You cannot sign in at this address. Ask your administrator for the right one.",
  422: "This key is not known here. Check it and try again.",
  429: "Too many attempts. Wait a moment and try again.",
};

let known = false;

/** Whether the user's key allows uploads and jobs. */
export const mayIngest = () => ["ingest", "admin"].includes(document.body.dataset.role);

/** Shows who is signed in, and hides what their key does not allow. */
export async function showSession() {
  if (known) return;
  try {
    const { role, name, keys } = await callJson("/v1/session");
    known = true;
    byId("session").hidden = !keys;
    byId("who").textContent = name;
    document.body.dataset.role = role; // style.css hides what this role may not do
  } catch (error) {
    if (!(error instanceof Problem)) throw error; // the page's other calls report what is wrong
  }
}

/** Signs out and reloads the page, so that nothing seen before stays in this window. */
async function signOut() {
  try {
    await call("/v1/session", { method: "DELETE" });
    location.assign("/");
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    byId("sign-out").textContent = "Still signed in: try again";
  }
}

/** From now on, refused calls open the form and continue when it has been filled in. */
export function installSignIn() {
  const dialog = byId("sign-in");
  const key = byId("key");
  let finish = () => {};

  byId("sign-out").addEventListener("click", signOut);
  byId("sign-in-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const fault = await signIn(key.value);
    showFault("key", fault);
    if (fault) return key.focus();
    key.value = "";
    known = false; // the key may be another one
    showSession();
    dialog.close("in");
  });
  dialog.addEventListener("close", () => finish(dialog.returnValue === "in"));

  onUnauthorized(
    () =>
      new Promise((resolve) => {
        finish = resolve;
        dialog.returnValue = "";
        showFault("key");
        dialog.showModal();
        key.focus();
      }),
  );
}

/** @returns {Promise<string|null>} why the sign-in failed, or null */
async function signIn(key) {
  if (!key) return "Enter the key that you were given.";
  try {
    // Do not call through server.js: a failure here must not open the form once more.
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
