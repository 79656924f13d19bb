// The nick that the user wants, which the browser remembers.

import { ask } from "./dialog.js";
import { keep, kept } from "./storage.js";
import { isPersonal } from "./token.js";

const NICK = "syncchat.nick";
const QUESTION = "Choose a nick";

/** The nick to connect with; empty: the server knows the name that belongs to the token. */
export async function firstNick() {
  return isPersonal() ? "" : kept("local", NICK) ?? await ask(QUESTION, { wrong: wrongNick });
}

/** Ask for another nick, since the server refused the last one. */
export async function askForNick({ link, asked }, complaint) {
  link.nick = await ask(QUESTION, { complaint, wrong: wrongNick });
  asked.delete("nick");
  link.ask({ type: "nick", nick: link.nick });
}

/** Remember the nick; that of a person belongs to their token. */
export function keepNick(nick) {
  if (!isPersonal()) keep("local", NICK, nick);
}

/** What is wrong with a nick; empty: nothing that the page can tell. */
function wrongNick(nick) {
  if (!nick) return "A nick must not be empty.";
  if ([...nick].length > 32) return "A nick must have at most 32 characters.";
  return /[\s:,]/u.test(nick) ? "A nick must be one word without colons or commas." : "";
}
