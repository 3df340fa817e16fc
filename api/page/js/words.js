// Names things, and says what went wrong, in a doctor's words.

// The names of HAM10000, of the ISIC archive and of DICOM for one idea have one label.
const FIELDS = {
  dx: "Diagnosis",
  diagnosis: "Diagnosis",
  dx_type: "Confirmed by",
  diagnosis_confirm_type: "Confirmed by",
  sex: "Sex",
  PatientSex: "Sex",
  localization: "Site",
  anatom_site_general: "Site",
  BodyPartExamined: "Site",
  age: "Age",
  age_approx: "Age",
  PatientAge: "Age",
  lesion_id: "Lesion",
  series_id: "Series",
  study_id: "Study",
  accession_id: "Accession",
  patient_id: "Patient",
  PatientID: "Patient",
  image_id: "Image",
};

// What data sets abbreviate.
const CONFIRMED = {
  histo: "histopathology",
  follow_up: "follow-up",
  consensus: "expert consensus",
  confocal: "confocal microscopy",
};
const VALUES = {
  dx_type: CONFIRMED,
  diagnosis_confirm_type: CONFIRMED,
  dx: {
    akiec: "actinic keratoses",
    bcc: "basal cell carcinoma",
    bkl: "benign keratosis-like lesions",
    df: "dermatofibroma",
    mel: "melanoma",
    melanocytic_Nevi: "melanocytic nevi",
    nv: "melanocytic nevi",
    vasc: "vascular lesions",
  },
};

/** The label of a field; of a nested one, such as clinical.sex, that of its last part. */
export function fieldLabel(name) {
  const last = name.split(".").at(-1);
  return own(FIELDS, last) ?? capital(name.replaceAll("_", " ").replaceAll(".", ": "));
}

/** The noun of a field, such as "lesion". @param {string} name @returns {string} */
export const fieldNoun = (name) => fieldLabel(name).toLowerCase().replace(/ id$/, "");

/** @param {unknown} value @param {string} [field] that it is of @returns {string} */
export function valueLabel(value, field = "") {
  if (value === null || value === undefined || value === "") return "not recorded";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (Array.isArray(value)) return value.map((one) => valueLabel(one, field)).join(", ");
  const known = own(VALUES, field.split(".").at(-1)) ?? {};
  return own(known, value) ?? String(value).replaceAll("_", " ");
}

/** What similarity is, in short. */
export const SIMILARITY =
  "How alike the encoder finds the two images: 1 is the same image. No probability, and no diagnosis";

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
 * @typedef {{place: string, text: string}} Fault `place` is an input of the page, or "message"
 */

const EMPTY = /^(there is no file, or it|the file) is empty/;
const OTHER = /^(.+), not a picture/;

// Why a file is rejected. Some of the api's sentences, said to a doctor; any other stays as it is.
const REJECTED = [
  [/^a DICOM file without pixels/, "This DICOM file holds no image; it is a report or a setting, for example. Choose one of the images."],
  [/^a DICOM file (that is truncated|with an element that is longer)/, "This DICOM file is damaged or incomplete. Fetch it from the archive again."],
  [/^a DICOM file (in an encoding|with a JPEG of 12 bits)/, "This DICOM file is compressed in a way that Kindred cannot read. Export it uncompressed."],
  [/^a DICOM file that has fewer frames/, "This DICOM file has no such frame."],
  [/^a HEIC picture/, "HEIC images cannot be read here. Export the image as JPEG, PNG or TIFF."],
  [EMPTY, "This file is empty."],
  [/^more pixels/, "This image has more pixels than this server accepts. Save a smaller copy."],
  [/^the image is truncated/, "This image is damaged or incomplete. Try to export it again."],
  [/^not a picture/, "Kindred cannot read this file as an image. Send JPEG, PNG, TIFF or WebP."],
  [/^the image takes more memory/, "This image is too large to open. Save a smaller copy."],
];

/**
 * Says why a row or an image was rejected.
 * @param {string} reason the api's sentence
 * @param {string} [source] the kind of source: a row of a data set may have no file at all
 * @returns {string}
 */
export function rejection(reason, source = "upload") {
  if (source !== "upload" && reason.startsWith("there is no file")) return capital(reason);
  const other = OTHER.exec(reason)?.[1];
  if (other)
    return `Kindred cannot read this file as an image. It is ${other}. Send JPEG, PNG, TIFF or WebP.`;
  return REJECTED.find(([known]) => known.test(reason))?.[1] ?? capital(reason);
}

export const NOT_ALLOWED =
  "Your key does not allow this. Ask your administrator for one that does.";

/** The api's own sentence, with a full stop. @param {import("./server.js").Problem} problem */
export function sentence({ detail }) {
  const text = capital((detail ?? "").trim());
  return !text || /[.!?…]$/.test(text) ? text : `${text}.`;
}

const NOT_STORED = {
  series: "No image of this series is stored here. It may not have been sent to Kindred yet.",
  study: "No image of this study is stored here. It may not have been sent to Kindred yet.",
  accession: "No image under this accession number is stored here. It may not have been sent to Kindred yet.",
};

/** Where a link of another system cannot be followed. */
export const BAD_LINK = "This link names no study, or it has expired. Open the study once more from where you came.";

const PLACES = [
  [/^crop/, "crop", "The marked part reaches outside the image. Mark it again."],
  [/^limit/, "limit", "Choose between 1 and 40 results."],
  [/^frame/, "picture", "This DICOM file has no such frame."],
  [/^score_threshold/, "threshold", "Similarity lies between −1 and 1."],
  [
    /^min_closeness/,
    "closeness",
    "How close images are is not known here: the collection was not evaluated, or has changed since. Ask your administrator to evaluate it.",
  ],
  [/^text/, "message", "This server compares images only; it cannot search by words."],
  [
    /^max_hash_distance/,
    "options",
    "Near-duplicates can be searched from one image only, without marks.",
  ],
  [
    /^(positive|negative|strategy)/,
    "message",
    "These marks cannot be searched together. Remove some of them.",
  ],
];

/**
 * Explains a problem of the api, and says where on the page to show it.
 * @param {import("./server.js").Problem} problem
 * @param {object} [query] what was sent
 * @returns {Fault}
 */
export function explain(problem, query = {}) {
  if (problem.status === 0)
    return message("Kindred cannot be reached. Is this computer still on the network?");
  if (problem.status === 401)
    return message("Please sign in first. Load this page again to do so.");
  if (problem.status === 403)
    return message(`${NOT_ALLOWED} ${sentence(problem)}`.trim());
  if (problem.status === 413)
    return picture("This image is too large for this server. Save a smaller copy.");
  if (problem.status === 404) return notFound(query);
  if (problem.status === 503)
    return message(`Kindred is not ready to search. ${sentence(problem)} This page continues by itself.`);
  if (problem.status === 422 || problem.status === 400) return invalid(problem, query);
  return message(
    `Something went wrong inside Kindred. ${sentence(problem)} Try again; if it happens again, tell your administrator.`,
  );
}

function invalid(problem, query) {
  // The api names the path of the fault; a search that failed later puts it before its detail.
  const named = problem.errors?.[0]?.path ?? /^([\w.]+): /.exec(problem.detail)?.[1] ?? "";
  const path = named.replace(/^query\./, "");
  const said = problem.errors?.[0]?.message ?? problem.detail.replace(/^[\w.]+: /, "");
  if (/^image(\.|$)/.test(path)) return picture(rejection(said));
  const known = PLACES.find(([pattern]) => pattern.test(path));
  if (known) return { place: known[1], text: known[2] };
  const field = fieldAt(query, path);
  if (/filter/.test(path)) return { place: "filters", text: filterWords(field, said) };
  if (/group_by/.test(path)) {
    return {
      place: "options",
      text: "The results cannot be grouped this way: the images have no such field.",
    };
  }
  if ([[OTHER], ...REJECTED].some(([pattern]) => pattern.test(said))) return picture(rejection(said));
  return message(`This search is not possible. ${sentence(problem)} Change or clear its settings.`);
}

function filterWords(field, said) {
  const name = field ? `“${fieldLabel(field)}”` : "One of them";
  if (/no image can fit/.test(said))
    return "These filters exclude each other: no image can match them all.";
  if (/range/.test(said)) return `The range of ${name} is empty: its least is above its greatest.`;
  return `The stored images have no field ${name} to filter by. Clear this filter.`;
}

/** The payload field at a path such as filter.must.0.key, looked up in the query. */
function fieldAt(query, path) {
  let at = query;
  let field = null;
  for (const part of path.split(".")) {
    at = at?.[part];
    if (typeof at?.key === "string") field = at.key;
  }
  return field;
}

function notFound(query) {
  const whole = ["series", "study", "accession"].find((name) => query[name]);
  if (whole) return message(NOT_STORED[whole]);
  if (query.image_id)
    return {
      place: "id",
      text: "No stored image has this id. Check it, or choose one of the images.",
    };
  return message("An image of this search is no longer stored. Remove its mark.");
}

const message = (text) => ({ place: "message", text });
const picture = (text) => ({ place: "picture", text });
/** What an object itself has under a name, and not what all objects have, as "constructor". */
const own = (object, name) => (Object.hasOwn(object, name) ? object[name] : undefined);
export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
