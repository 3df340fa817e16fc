// Where the api is: beside the page, which a proxy may serve below a path of its own.

/** @param {string} path of the api, such as /v1/jobs @returns {string} relative to the page */
export const here = (path) => `.${path}`;
