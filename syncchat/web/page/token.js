// The secrets that the browser keeps for this server: the token that the server may require, and the
// secret by which all tabs share the nick. Another server on the same host, at another path, must not
// get them.

import { drop, keep, kept } from "./storage.js";

const base = location.pathname.replace(/[^/]*$/u, "");
const TOKEN = `syncchat.token ${base}`, BROWSER = `syncchat.browser ${base}`;
// How the token of a person begins.
const PERSONAL = "syncchat_";
const PRINTABLE = /^[\x21-\x7e]+$/u; // What an HTTP header can carry.
// Milliseconds for the answer of the server.
const PATIENCE = 10_000;

/** The token for this server; empty: there is none. */
export function tokenKept() {
  return kept("local", TOKEN) ?? "";
}

/** Remember the token. */
export function keepToken(token) {
  keep("local", TOKEN, token);
}

/** Forget the token, in all tabs. */
export function forgetToken() {
  drop("local", TOKEN);
}

/** Whether the token is that of a person, whose name the server knows. */
export function isPersonal(token = tokenKept()) {
  return token.startsWith(PERSONAL);
}

/** What is wrong with a token; empty: nothing that the page can tell. */
export function wrongToken(token) {
  if (!token) return "Enter the token.";
  return PRINTABLE.test(token) ? "" : "A token must consist of ASCII letters, digits and signs.";
}

/** Move the token from the URL to the storage, so that it does not stay in the URL. */
export function tokenOfAddress() {
  const url = new URL(location.href);
  const token = url.searchParams.get("token");
  if (token === null) return;
  keepToken(token);
  url.searchParams.delete("token");
  history.replaceState(null, "", url);
}

/** The secret of this browser. */
export function browserSecret() {
  if (!kept("local", BROWSER)) keep("local", BROWSER, randomName());
  return kept("local", BROWSER); // Another tab may have been faster.
}

/** A random text of 24 letters, digits and signs. */
export function randomName() {
  const bytes = crypto.getRandomValues(new Uint8Array(18));
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_");
}

/**
 * Ask the server why it refuses a WebSocket, which a browser does not tell. Resolves to its HTTP
 * status and its words; null: it refuses nothing, or cannot be reached.
 */
export async function whyRefused() {
  const token = tokenKept();
  if (token && wrongToken(token)) return { status: 401, text: wrongToken(token) };
  try {
    const answer = await fetch(`${base}-/auth`, {
      method: "POST", // With which a browser sends the page's origin.
      headers: token ? { Authorization: `Bearer ${token}` } : {},
      cache: "no-store",
      signal: AbortSignal.timeout(PATIENCE),
    });
    return answer.ok ? null : { status: answer.status, text: wordsOf(await answer.text()) };
  } catch {
    return null; // The link shows that there is no server, and tries again.
  }
}

/** The reason in a refusal's body: JSON of this server, or a text of a proxy. */
function wordsOf(body) {
  try {
    return String(JSON.parse(body).error ?? "");
  } catch {
    return /^\s*</u.test(body) ? "" : body.trim().slice(0, 400);
  }
}
