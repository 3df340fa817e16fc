// Uploads many files in few requests, each small enough for the server.

import { Problem, sendForm } from "./server.js";

// By default the server accepts 32 MB and 1,000 files a request. We halve a request that it still
// refuses.
const CHUNK_BYTES = 16_000_000;
const CHUNK_FILES = 256;

/** The names of the files that this tab has sent, by job. */
const names = new Map();

/**
 * The name of a row's file, if each file of the job is one row: tables and archives are not.
 * @param {import("./job-words.js").Job} job
 * @param {number} row
 * @returns {string|undefined}
 */
export function fileName({ id, total }, row) {
  const sent = names.get(id);
  return sent?.length === total ? sent[row] : undefined;
}

/**
 * Splits files into requests. A file that is too large for any goes alone.
 * @param {File[]} files
 * @returns {File[][]}
 */
export function chunks(files) {
  const runs = [];
  let run = [];
  let size = 0;
  for (const file of files) {
    if (run.length && (size + file.size > CHUNK_BYTES || run.length === CHUNK_FILES)) {
      runs.push(run);
      [run, size] = [[], 0];
    }
    run.push(file);
    size += file.size;
  }
  return run.length ? [...runs, run] : runs;
}

/**
 * Sends all files, one job a request. What is too large for the server is told to it, so that it
 * counts as rejected there too.
 * @param {File[]} files
 * @param {{onProgress: (fraction: number) => void, onJob: (job: object) => void}} told
 * @returns {Promise<File[]>} the files that are too large for this server. Throws Problem.
 */
export async function upload(files, { onProgress, onJob }) {
  const all = files.reduce((sum, { size }) => sum + size, 0) || 1;
  const refused = [];
  const rejected = [];
  const upload = crypto.getRandomValues(new Uint32Array(4)).join("-");
  const send = async (run, onPart) => {
    const form = formOf(run, run.length ? [] : rejected);
    const job = await sendForm(`/v1/images?upload=${upload}`, form, onPart);
    names.set(job.id, run.length ? run.map(nameOf) : rejected.map(({ name }) => name));
    onJob(job);
  };
  const waiting = chunks(files);
  let sent = 0;
  while (waiting.length) {
    const run = waiting.shift();
    const size = run.reduce((sum, file) => sum + file.size, 0);
    try {
      await send(run, (part) => onProgress((sent + part * size) / all));
      sent += size;
    } catch (error) {
      if (!(error instanceof Problem && error.status === 413)) throw error;
      if (run.length > 1)
        waiting.unshift(run.slice(0, run.length >> 1), run.slice(run.length >> 1));
      else {
        refused.push(run[0]);
        rejected.push({
          name: nameOf(run[0]),
          reason: `too large for the server: ${error.detail}`.slice(0, 500),
        });
        sent += size;
      }
    }
    onProgress(sent / all);
  }
  if (rejected.length) await send([], () => {});
  return refused;
}

const nameOf = ({ name, webkitRelativePath }) => webkitRelativePath || name;

/** The names travel beside the files, as not every name fits into a header. */
function formOf(files, rejected) {
  const form = new FormData();
  files.forEach((file, number) => form.append("files", file, String(number)));
  form.append("account", JSON.stringify({ names: files.map(nameOf), rejected, skipped: [] }));
  return form;
}
