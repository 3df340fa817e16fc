// The arithmetic of crops: rectangles in fractions of an image, always inside it.

/** @typedef {import("./address.js").Crop} Crop */

/** The smallest side: a smaller part shows nothing of a lesion. */
export const LEAST = 0.05;

/** The part that is marked first. */
export const MIDDLE = { left: 0.2, top: 0.2, width: 0.6, height: 0.6 };

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

/** @param {Crop} crop @param {number} dx @param {number} dy @returns {Crop} */
export const moved = (crop, dx, dy) => ({
  ...crop,
  left: clamp(crop.left + dx, 0, 1 - crop.width),
  top: clamp(crop.top + dy, 0, 1 - crop.height),
});

/**
 * Moves the edges that belong to a handle.
 * @param {Crop} crop
 * @param {string} handle letters of n, e, s and w
 * @param {number} dx
 * @param {number} dy
 * @returns {Crop}
 */
export function resized(crop, handle, dx, dy) {
  let { left, top } = crop;
  let right = left + crop.width;
  let bottom = top + crop.height;
  if (handle.includes("w")) left = clamp(left + dx, 0, right - LEAST);
  if (handle.includes("e")) right = clamp(right + dx, left + LEAST, 1);
  if (handle.includes("n")) top = clamp(top + dy, 0, bottom - LEAST);
  if (handle.includes("s")) bottom = clamp(bottom + dy, top + LEAST, 1);
  return { left, top, width: right - left, height: bottom - top };
}

/** The rectangle between two corners. @returns {Crop} */
export function between(x1, y1, x2, y2) {
  const [left, right] = [Math.min(x1, x2), Math.max(x1, x2)].map((x) => clamp(x, 0, 1));
  const [top, bottom] = [Math.min(y1, y2), Math.max(y1, y2)].map((y) => clamp(y, 0, 1));
  return fitted({ left, top, width: right - left, height: bottom - top });
}

/** Grows a crop to the least size and moves it inside. @param {Crop} crop @returns {Crop} */
export function fitted({ left, top, width, height }) {
  const w = clamp(width || 0, LEAST, 1);
  const h = clamp(height || 0, LEAST, 1);
  return { left: clamp(left || 0, 0, 1 - w), top: clamp(top || 0, 0, 1 - h), width: w, height: h };
}
