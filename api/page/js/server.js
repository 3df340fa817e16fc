// Calls to the api. What fails comes as a Problem. A call that needs a key asks for it, once; one
// that is put off, because too many call, is made again when the api says.

/** An RFC 9457 problem. Status 0: the api could not be reached at all. */
export class Problem extends Error {
  /** @param {{status: number, detail?: string, type?: string, retryAfter?: number, errors?: {place: string, message: string}[]}} said */
  constructor({ status, detail = "", type = "", retryAfter, errors }) {
    super(detail);
    this.status = status;
    this.retryAfter = retryAfter;
    this.detail = detail;
    this.type = type;
    this.errors = errors;
  }

  /** Whether waiting can help: the api, Redis or all workers are away. */
  get passing() {
    return this.status === 0 || this.status === 502 || this.status === 503 || this.status === 504;
  }
}

/** Until a call that was put off is made again, when the api does not say. */
const BUSY_SECONDS = 5;

let askForKey = async () => false;
let asking = null;

/** @param {() => Promise<boolean>} ask says whether the caller has signed in */
export function onUnauthorized(ask) {
  askForKey = ask;
}

let sayBusy = (seconds) => {};
let putOff = 0;

/** @param {(seconds: number) => void} say is told when calls wait, and 0 when none does any more */
export function onBusy(say) {
  sayBusy = say;
}

/**
 * @param {string} path
 * @param {RequestInit} [options]
 * @returns {Promise<Response>} one that is ok. Throws Problem, or AbortError.
 */
export async function call(path, options = {}) {
  let response;
  try {
    response = await fetch(path, options);
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
 * Sends a form and tells how much of it is on its way, which fetch cannot.
 * @param {string} path
 * @param {FormData} form
 * @param {(fraction: number) => void} onProgress
 * @returns {Promise<any>}
 */
export async function sendForm(path, form, onProgress) {
  const { status, body, wait } = await new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", path);
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

/** What `again` brings, where a key or patience is all that was missing. Throws the problem. */
async function repaired(problem, signal, again) {
  if (problem.status === 401 && (await signedIn())) return again();
  if (problem.status !== 429) throw problem;
  putOff += 1;
  const seconds = problem.retryAfter || BUSY_SECONDS;
  sayBusy(seconds);
  try {
    await pause(seconds * 1000, signal);
    return await again();
  } finally {
    putOff -= 1;
    if (!putOff) sayBusy(0);
  }
}

/** Calls that are refused at the same time share one sign-in. */
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
