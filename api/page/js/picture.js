// The user's own images: chosen, dropped or pasted. They stay in this tab; an address cannot hold
// them.

import { filesOf } from "./dicom.js";

// The number of images kept for the back button; users must choose an older one again.
const KEPT = 12;

/**
 * @typedef {object} Picture
 * @property {File} file the first of `files`
 * @property {File[]} files several only if they are DICOM
 * @property {boolean} isDicom
 * @property {string} url shows it, unless it is DICOM
 */

/** @type {Map<number, Picture>} */
const pictures = new Map();
let last = 0;

/**
 * @param {File[]} files
 * @param {boolean} isDicom
 * @returns {number} the number by which this tab finds them again
 */
export function keep(files, isDicom) {
  last += 1;
  const [file] = files;
  pictures.set(last, { file, files, isDicom, url: URL.createObjectURL(file) });
  const oldest = last - KEPT;
  if (pictures.has(oldest)) {
    URL.revokeObjectURL(pictures.get(oldest).url);
    pictures.delete(oldest);
  }
  return last;
}

/** @param {number|undefined} number @returns {Picture|null} */
export const kept = (number) => pictures.get(number) ?? null;

/**
 * Takes files that are dropped or pasted anywhere on the page, and marks the page meanwhile.
 * @param {(files: File[]) => void} take
 */
export function onFiles(take) {
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  const mark = (on) => document.body.classList.toggle("dropping", on);
  document.addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    mark(true);
  });
  document.addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) mark(false);
  });
  document.addEventListener("drop", (event) => {
    mark(false);
    if (!hasFiles(event)) return;
    event.preventDefault();
    filesOf(event.dataTransfer).then(take);
  });
  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (!files.length) return;
    event.preventDefault();
    take(files);
  });
}

/**
 * Takes files from an `<input type=file>` and empties it, so that the same file works again.
 * @param {HTMLInputElement} input
 * @param {(files: File[]) => void} take
 */
export function onChosen(input, take) {
  input.addEventListener("change", () => {
    const files = [...input.files];
    input.value = "";
    if (files.length) take(files);
  });
}
