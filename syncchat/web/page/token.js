// The token that the server may require.

import { ask } from "./dialog.js";
import { keep, kept } from "./storage.js";

const TOKEN = "syncchat.token";
const WANTED = "The server requires a token.";
// How the token of a person begins.
const PERSONAL = "syncchat_";
const PRINTABLE = /^[\x21-\x7e]+$/u; // What an HTTP header can carry.

let authorizing = null; // The promise of authorize() while it runs.

/** The token of this tab; empty: there is none. */
export function tokenKept() {
  return kept("session", TOKEN) ?? "";
}

/** Forget the token of this tab. */
export function forgetToken() {
  keep("session", TOKEN, "");
}

/** Whether the token is that of a person, whose name the server knows. */
export function isPersonal() {
  return tokenKept().startsWith(PERSONAL);
}

/** Move the token from the URL to the session storage, so that it does not stay in the URL. */
export function tokenOfAddress() {
  const url = new URL(location.href);
  const token = url.searchParams.get("token");
  if (token === null) return;
  keep("session", TOKEN, token);
  url.searchParams.delete("token");
  history.replaceState(null, "", url);
}

/**
 * Resolve when the server accepts the token, or cannot be reached. Otherwise ask the user for a
 * token, after `hold()`.
 */
export function authorize(hold) {
  authorizing ??= askForToken(hold).finally(() => { authorizing = null; });
  return authorizing;
}

async function askForToken(hold) {
  let complaint = "";
  for (;;) {
    const token = tokenKept();
    if (token && !PRINTABLE.test(token)) {
      complaint = "A token must consist of ASCII letters, digits and signs.";
    } else {
      const headers = token ? { Authorization: `Bearer ${token}` } : {};
      let answer;
      try {
        answer = await fetch("-/auth", { headers, cache: "no-store" });
      } catch {
        return; // No server: the link shows that, and retries.
      }
      if (answer.status !== 401) return;
      if (token) complaint = "The server does not accept this token.";
    }
    hold();
    keep("session", TOKEN, await ask(WANTED, { kind: "password", complaint }));
  }
}
