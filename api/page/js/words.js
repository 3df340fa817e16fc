// How things are called here, and what went wrong, in a doctor's words.

const FIELDS = {
  dx: "Diagnosis",
  dx_type: "Confirmed by",
  sex: "Sex",
  localization: "Place",
  age: "Age",
  lesion_id: "Lesion",
  image_id: "Image",
};

/** @param {string} name @returns {string} */
export const fieldLabel = (name) => FIELDS[name] ?? capital(name.replaceAll("_", " "));

/** As in "one lesion". @param {string} name @returns {string} */
export const fieldNoun = (name) => fieldLabel(name).toLowerCase().replace(/ id$/, "");

/** @param {unknown} value @returns {string} */
export function valueLabel(value) {
  if (value === null || value === undefined || value === "") return "not recorded";
  if (typeof value === "boolean") return value ? "yes" : "no";
  return String(value).replaceAll("_", " ");
}

/** @param {number} score cosine, -1 to 1 @returns {string} */
export const similarity = (score) => score.toFixed(3);

/** @param {number} count @param {string} one @param {string} [many] @returns {string} */
export const counted = (count, one, many = `${one}s`) =>
  `${count.toLocaleString("en")} ${count === 1 ? one : many}`;

/** @param {number|null} seconds @returns {string} */
export function duration(seconds) {
  if (seconds === null || !Number.isFinite(seconds)) return "";
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

/**
 * @typedef {{place: string, text: string}} Fault `place` is a field of the page, or "message"
 */

// Why a file is not taken. The api's sentences are constant; these say the same to a doctor.
const REFUSED = [
  [/DICOM/, "DICOM files cannot be searched yet. Export the picture as JPEG, PNG or TIFF."],
  [/HEIC/, "HEIC pictures cannot be read. Export the picture as JPEG, PNG or TIFF."],
  [/PDF/, "A PDF is not a picture. Export the picture as JPEG, PNG or TIFF."],
  [/empty/, "This file is empty."],
  [/pixels/, "This picture has more pixels than this server takes. Save a smaller copy."],
  [/truncated|damaged/, "This picture is damaged or incomplete. Try to export it again."],
  [/not an image/, "This file is not a picture that can be read. JPEG, PNG, TIFF and WebP can."],
  [/memory/, "This picture is too large to be opened. Save a smaller copy."],
];

/**
 * What a refused row or picture is told.
 * @param {string} reason the api's
 * @returns {string}
 */
export const refusal = (reason) =>
  REFUSED.find(([known]) => known.test(reason))?.[1] ?? capital(reason);

const PLACES = [
  [/^crop/, "crop", "The marked part reaches outside the picture. Mark it again."],
  [/^limit/, "limit", "Choose between 1 and 40 results."],
  [/^score_threshold/, "threshold", "Similarity lies between −1 and 1."],
  [/^text/, "message", "This server compares pictures only; it cannot search by words."],
  [
    /^not_same/,
    "options",
    "Leaving out a lesion needs a held image to start from, and one whose lesion is known.",
  ],
  [
    /^max_hash_distance/,
    "options",
    "Near-duplicates can be looked for from one picture only, without marks.",
  ],
  [
    /^(positive|negative|strategy)/,
    "message",
    "These marks cannot be searched together. Take some of them away.",
  ],
];

/**
 * What a problem of the api means, and where on the page to say it.
 * @param {import("./server.js").Problem} problem
 * @param {object} [query] what was sent
 * @returns {Fault}
 */
export function explain(problem, query = {}) {
  if (problem.status === 0)
    return message("Kindred cannot be reached. Is this computer still on the network?");
  if (problem.status === 401)
    return message("This server answers only those who sign in. Load this page again to do so.");
  if (problem.status === 403)
    return message("Your key does not allow this. Ask who runs Kindred for one that does.");
  if (problem.status === 413)
    return picture("This picture is too large for this server. Save a smaller copy.");
  if (problem.status === 404) return notHeld(query);
  if (problem.status === 503)
    return message("Kindred is not ready to search. It will go on by itself.");
  if (problem.status === 422 || problem.status === 400) return invalid(problem, query);
  return message(
    "Something went wrong inside Kindred. Try again; if it stays so, tell who runs it.",
  );
}

function invalid(problem, query) {
  // The api names the place of the fault; a search that failed later names it before its detail.
  const named = problem.errors?.[0]?.place ?? /^([\w.]+): /.exec(problem.detail)?.[1] ?? "";
  const place = named.replace(/^query\./, "");
  const said = problem.errors?.[0]?.message ?? problem.detail;
  if (/^image(\.|$)/.test(place)) return picture(refusal(said));
  const known = PLACES.find(([pattern]) => pattern.test(place));
  if (known) return { place: known[1], text: known[2] };
  const field = fieldAt(query, place);
  if (/filter/.test(place)) return { place: "filters", text: filterWords(field, said) };
  if (/group_by/.test(place)) {
    return {
      place: "options",
      text: "The results cannot be counted together this way: the images carry no such field.",
    };
  }
  if (REFUSED.some(([pattern]) => pattern.test(said))) return picture(refusal(said));
  return message("This search is not possible as it stands. Change or clear its settings.");
}

function filterWords(field, said) {
  const name = field ? `“${fieldLabel(field)}”` : "One of them";
  if (/no image can fit/.test(said))
    return "These filters exclude each other: no image can fit them.";
  if (/range/.test(said)) return `The range of ${name} is empty: its least is above its greatest.`;
  return `The held images carry no field ${name} to filter by. Clear this filter.`;
}

/** The payload field that a place like filter.must.0.key speaks of, looked up in what was sent. */
function fieldAt(query, place) {
  let at = query;
  let field = null;
  for (const part of place.split(".")) {
    at = at?.[part];
    if (typeof at?.key === "string") field = at.key;
  }
  return field;
}

function notHeld(query) {
  if (query.image_id)
    return {
      place: "id",
      text: "No held image has this id. Check it, or choose one of the pictures.",
    };
  return message("An image of this search is not held any more. Take its mark away.");
}

const message = (text) => ({ place: "message", text });
const picture = (text) => ({ place: "picture", text });
const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
