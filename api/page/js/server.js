// Calls to the api. What fails comes as a Problem; a call that needs a key asks for it, once.

/** An RFC 9457 problem. Status 0: the api could not be reached at all. */
export class Problem extends Error {
  /** @param {{status: number, detail?: string, type?: string, errors?: {place: string, message: string}[]}} said */
  constructor({ status, detail = "", type = "", errors }) {
    super(detail);
    this.status = status;
    this.detail = detail;
    this.type = type;
    this.errors = errors;
  }

  /** Whether waiting can help: the api, Redis or all workers are away. */
  get passing() {
    return this.status === 0 || this.status === 502 || this.status === 503 || this.status === 504;
  }
}

let askForKey = async () => false;
let asking = null;

/** @param {() => Promise<boolean>} ask says whether the caller has signed in */
export function onUnauthorized(ask) {
  askForKey = ask;
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
  const problem = await toProblem(response);
  if (problem.status === 401 && (await signedIn())) return call(path, options);
  throw problem;
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
  const { status, body } = await new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", path);
    request.upload.addEventListener(
      "progress",
      (e) => e.lengthComputable && onProgress(e.loaded / e.total),
    );
    request.addEventListener("load", () =>
      resolve({ status: request.status, body: request.responseText }),
    );
    request.addEventListener("error", () => reject(new Problem({ status: 0 })));
    request.send(form);
  });
  if (status >= 200 && status < 300) return JSON.parse(body);
  if (status === 401 && (await signedIn())) return sendForm(path, form, onProgress);
  throw new Problem({ ...readJson(body), status });
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

/** Calls that are refused at the same time share one sign-in. */
function signedIn() {
  asking ??= askForKey().finally(() => {
    asking = null;
  });
  return asking;
}

async function toProblem(response) {
  return new Problem({ ...readJson(await response.text()), status: response.status });
}

function readJson(text) {
  try {
    return JSON.parse(text);
  } catch {
    return {};
  }
}
