// A link of an archive or an information system: `/open` has hashed the number in it, and sealed
// it for somebody who had not signed in.

import { Problem, post } from "./server.js";

/** What `open=` says where the link had no number that can be one. */
const UNREADABLE = "unreadable";

/**
 * @param {string} token
 * @returns {Promise<{by: string, keys: string[]}|null>} what is opened; null if the link is no
 *   longer good. Asks for a key if one is needed. Throws Problem if nothing answers.
 */
export async function unseal(token) {
  if (token === UNREADABLE) return null;
  try {
    const { kind, keys } = await post("/v1/opened", { token });
    return { by: kind, keys };
  } catch (error) {
    if (error instanceof Problem && error.status === 422) return null;
    throw error;
  }
}
