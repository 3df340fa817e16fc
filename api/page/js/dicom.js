// DICOM among the files that a user drops or chooses: which files are, and how they are shown.

import { call } from "./server.js";

/** Files that one search compares; the server takes no more (MAX_PICTURES). */
export const MOST_FILES = 32;

/** Where a DICOM file says so, in bytes (PS3.10, 7.1). */
const MARK = { start: 128, text: "DICM" };

/** @param {Blob} file @returns {Promise<boolean>} */
export async function isDicom(file) {
  const end = MARK.start + MARK.text.length;
  return (await file.slice(MARK.start, end).text().catch(() => "")) === MARK.text;
}

/**
 * Of several files those that are DICOM, in the order of their names: a series is numbered by them.
 * @param {File[]} files
 * @returns {Promise<File[]>}
 */
export async function dicomOf(files) {
  const found = await Promise.all(files.map(isDicom));
  const name = (file) => file.webkitRelativePath || file.name;
  return files
    .filter((_, number) => found[number])
    .sort((a, b) => name(a).localeCompare(name(b), "en", { numeric: true }));
}

/** At most so many of a list, evenly. @template T @param {T[]} all @param {number} most @returns {T[]} */
export function spread(all, most = MOST_FILES) {
  if (all.length <= most) return all;
  return Array.from({ length: most }, (_, n) => all[Math.round((n * (all.length - 1)) / (most - 1))]);
}

/**
 * All files of a drop, those in folders too.
 * @param {DataTransfer} transfer
 * @returns {Promise<File[]>}
 */
export async function filesOf(transfer) {
  // Both lists are empty as soon as the event has passed.
  const plain = [...transfer.files];
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return plain;
  return (await Promise.all(entries.map(filesIn))).flat();
}

async function filesIn(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    // It gives a hundred at a time, and none at the end.
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) break;
    found.push(...some);
  }
  return (await Promise.all(found.map(filesIn))).flat();
}

/**
 * @typedef {{centre: number, width: number}} Window in the units of the file
 * @typedef {{url: string, frame: number, frames: number, window: Window|null}} Rendering
 */

/**
 * A frame as the server renders it: no browser reads DICOM, nor every TIFF.
 * @param {File} file
 * @param {{frame?: number, window?: Window|null, signal?: AbortSignal}} shown
 * @returns {Promise<Rendering>} `url` is of a blob, which the caller revokes. Throws Problem.
 */
export async function render(file, { frame, window, signal }) {
  const body = new FormData();
  body.append("shown", JSON.stringify({ ...(frame && { frame }), ...window }));
  body.append("image", file, "picture"); // without its name, which can be a patient's
  const response = await call("/v1/renderings", { method: "POST", body, signal });
  const number = (name) => Number(response.headers.get(name));
  const [centre, width] = (response.headers.get("Kindred-Window") ?? "").split("/").map(Number);
  return {
    url: URL.createObjectURL(await response.blob()),
    frame: number("Kindred-Frame"),
    frames: number("Kindred-Frames"),
    window: width > 0 ? { centre, width } : null,
  };
}
