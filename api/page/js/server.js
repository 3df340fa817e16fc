// Calls the api, and throws a Problem if a call fails. A call that needs a key asks for it once. A
// call that the api delays, because there are too many, is repeated when the api says.

import { here } from "./here.js";

/** An RFC 9457 problem. Status 0: the api could not be reached at all. */
export class Problem extends Error {
  /** @param {{status: number, detail?: string, type?: string, retryAfter?: number, errors?: {path: string, message: string}[]}} said */
  constructor({ status, detail = "", type = "", retryAfter, errors }) {
    super(detail);
    this.status = status;
    this.retryAfter = retryAfter;
    this.detail = detail;
    this.type = type;
    this.errors = errors;
  }

  /** Whether waiting can help: the api, Redis or all workers are unavailable. */
  get passing() {
    return this.status === 0 || this.status === 502 || this.status === 503 || this.status === 504;
  }
}

/** In seconds, until a delayed call is repeated if the api gives no time. */
const BUSY_SECONDS = 5;

let askForKey = async () => false;
let asking = null;

/** @param {() => Promise<boolean>} ask resolves to whether the user has signed in */
export function onUnauthorized(ask) {
  askForKey = ask;
}

let sayBusy = (seconds) => {};
let delayed = 0;

/** @param {(seconds: number) => void} say called when calls are delayed, and with 0 afterwards */
export function onBusy(say) {
  sayBusy = say;
}

/**
 * @param {string} path
 * @param {RequestInit} [options]
 * @returns {Promise<Response>} a successful response. Throws Problem, or AbortError.
 */
export async function call(path, options = {}) {
  let response;
  try {
    response = await fetch(here(path), options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({ status: 0 });
  }
  if (response.ok) return response;
  return repaired(await toProblem(response), options.signal, () => call(path, options));
}

/** @param {string} path @param {RequestInit} [options] @returns {Promise<any>} */
export async function callJson(path, options) {
  return (await call(path, options)).json();
}

/** @param {string} path @param {unknown} body @param {RequestInit} [options] @returns {Promise<any>} */
export function post(path, body, options = {}) {
  const headers = { "Content-Type": "application/json", ...options.headers };
  return callJson(path, { ...options, method: "POST", headers, body: JSON.stringify(body) });
}

/**
 * Sends a form and reports its progress, which fetch cannot.
 * @param {string} path
 * @param {FormData} form
 * @param {(fraction: number) => void} onProgress
 * @returns {Promise<any>}
 */
export async function sendForm(path, form, onProgress) {
  const { status, body, wait } = await new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", here(path));
    request.upload.addEventListener(
      "progress",
      (e) => e.lengthComputable && onProgress(e.loaded / e.total),
    );
    request.addEventListener("load", () =>
      resolve({
        status: request.status,
        body: request.responseText,
        wait: request.getResponseHeader("Retry-After"),
      }),
    );
    request.addEventListener("error", () => reject(new Problem({ status: 0 })));
    request.send(form);
  });
  if (status >= 200 && status < 300) return JSON.parse(body);
  const problem = new Problem({ ...readJson(body), status, retryAfter: Number(wait) });
  return repaired(problem, undefined, () => sendForm(path, form, onProgress));
}

/** Resolves when a worker is ready, however long that takes. @param {AbortSignal} [signal] */
export async function whenReady(signal) {
  for (;;) {
    try {
      return await call("/readyz", { signal });
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      await pause(1500, signal);
    }
  }
}

/** @param {number} milliseconds @param {AbortSignal} [signal] @returns {Promise<void>} */
export function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}

/** Repeats the call if only a key or some waiting was missing. Otherwise throws the problem. */
async function repaired(problem, signal, again) {
  if (problem.status === 401 && (await signedIn())) return again();
  if (problem.status !== 429) throw problem;
  delayed += 1;
  const seconds = problem.retryAfter || BUSY_SECONDS;
  sayBusy(seconds);
  try {
    await pause(seconds * 1000, signal);
    return await again();
  } finally {
    delayed -= 1;
    if (!delayed) sayBusy(0);
  }
}

/** Asks the user to sign in, once for all calls that are refused at the same time. */
function signedIn() {
  asking ??= askForKey().finally(() => {
    asking = null;
  });
  return asking;
}

async function toProblem(response) {
  const retryAfter = Number(response.headers.get("Retry-After"));
  return new Problem({ ...readJson(await response.text()), status: response.status, retryAfter });
}

function readJson(text) {
  try {
    return JSON.parse(text);
  } catch {
    return {};
  }
}
