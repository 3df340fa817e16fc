// The user's own images: chosen, dropped or pasted. They stay in this tab; an address cannot hold
// them.

// The number of images kept for the back button; users must choose an older one again.
const KEPT = 12;

/** @type {Map<number, {file: File, url: string}>} */
const pictures = new Map();
let last = 0;

/** @param {File} file @returns {number} the number by which this tab finds it again */
export function keep(file) {
  last += 1;
  pictures.set(last, { file, url: URL.createObjectURL(file) });
  const oldest = last - KEPT;
  if (pictures.has(oldest)) {
    URL.revokeObjectURL(pictures.get(oldest).url);
    pictures.delete(oldest);
  }
  return last;
}

/** @param {number|undefined} number @returns {{file: File, url: string}|null} */
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
    take([...event.dataTransfer.files]);
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
