// The nick that the user wants, which the browser remembers.

import { keep, kept } from "./storage.js";
import { isPersonal } from "./token.js";

const NICK = "syncchat.nick";
const MOST = 32;

/** The nick to connect with; empty: the server knows the name that belongs to the token; null: it is unknown. */
export function nickKept() {
  return isPersonal() ? "" : kept("local", NICK);
}

/** Remember the nick; that of a person belongs to their token. */
export function keepNick(nick) {
  if (!isPersonal()) keep("local", NICK, nick);
}

/** What is wrong with a nick; empty: nothing that the page can tell. A person needs none. */
export function wrongName(nick, { token = "" } = {}) {
  if (!nick) return isPersonal(token) ? "" : "Enter a name.";
  if ([...nick].length > MOST) return `A name must have at most ${MOST} characters.`;
  return /[\s:,]/u.test(nick) ? "A name must be one word without colons or commas." : "";
}
