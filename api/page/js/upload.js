// Uploads many files in few requests, each small enough for the server.

import { Problem, sendForm } from "./server.js";

// By default the server accepts 32 MB and 1,000 files a request. We halve a request that it still
// refuses.
const CHUNK_BYTES = 16_000_000;
const CHUNK_FILES = 256;

/** The names of the files that this tab has sent, by job. The server never learns them. */
const names = new Map();

/** @param {string} job @param {number} row @returns {string|undefined} */
export const fileName = (job, row) => names.get(job)?.[row];

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
 * Sends all files, one job a request.
 * @param {File[]} files
 * @param {{onProgress: (fraction: number) => void, onJob: (job: object) => void}} told
 * @returns {Promise<File[]>} the files that are too large for this server. Throws Problem.
 */
export async function upload(files, { onProgress, onJob }) {
  const all = files.reduce((sum, { size }) => sum + size, 0) || 1;
  const refused = [];
  const waiting = chunks(files);
  let sent = 0;
  while (waiting.length) {
    const run = waiting.shift();
    const size = run.reduce((sum, file) => sum + file.size, 0);
    try {
      const job = await sendForm("/v1/images", formOf(run), (part) =>
        onProgress((sent + part * size) / all),
      );
      names.set(
        job.id,
        run.map(({ name }) => name),
      );
      onJob(job);
      sent += size;
    } catch (error) {
      if (!(error instanceof Problem && error.status === 413)) throw error;
      if (run.length > 1)
        waiting.unshift(run.slice(0, run.length >> 1), run.slice(run.length >> 1));
      else {
        refused.push(run[0]);
        sent += size;
      }
    }
    onProgress(sent / all);
  }
  return refused;
}

function formOf(files) {
  const form = new FormData();
  // Do not send the names of files: they can be patients'.
  files.forEach((file, number) => form.append("files", file, `picture-${number + 1}`));
  return form;
}
