// How the user joins: what the panel asks for, and what happens when the server refuses. A nick is
// kept only when the server has accepted it (events.js).

import { ask, isAsking } from "./dialog.js";
import { nickKept } from "./nick.js";
import { isPersonal, keepToken, tokenKept, whyRefused, wrongToken } from "./token.js";

// Refusals that last until the operator, or the user, does something.
const LASTING = new Set([400, 403, 404, 426]);

let looking = false; // The server is being asked why it refuses.

/** The nick to connect with, for which the user is asked on a first visit; empty: the server knows it. */
export async function introduce() {
  const known = nickKept();
  if (known !== null) return known;
  const answer = ask({ name: true });
  // Meanwhile, find out whether a token is missing, too.
  whyRefused().then((refusal) => {
    if (refusal?.status === 401 && isAsking()) ask({ name: true, token: true, complaints: complaint() });
  });
  return taken(await answer);
}

/** The server did not open the WebSocket: say why, and do what helps. */
export async function refused({ link, log }) {
  if (looking || isAsking()) return;
  looking = true;
  const refusal = await whyRefused();
  looking = false;
  if (link.state !== "waiting" || isAsking()) return;
  if (refusal?.status === 401) {
    link.hold();
    const name = !link.nick && nickKept() === null;
    const nick = taken(await ask({ name, token: true, complaints: complaint() }));
    connect(link, nick ?? (isPersonal() ? "" : link.nick));
  } else if (refusal && LASTING.has(refusal.status)) {
    link.refuse(refusal.text || "The server does not let this page in.");
    log.line("alarm", link.reason);
  } else {
    link.reason = refusal?.text ?? "";
  }
}

/** The server refuses the nick: ask for another one. */
export async function askForNick({ link, asked }, why) {
  const { name } = await ask({ name: true, complaints: { name: why } });
  asked.delete("nick");
  if (!link.ask({ type: "nick", nick: name })) connect(link, name);
  else link.nick = name;
}

function connect(link, nick) {
  link.nick = nick;
  link.token = tokenKept();
  link.open();
}

/** Keep the token of an answer. Returns the nick; undefined: it was not asked for. */
function taken({ name, token }) {
  if (token) keepToken(token);
  return isPersonal() ? "" : name;
}

function complaint() {
  const token = tokenKept();
  return token ? { token: wrongToken(token) || "The server does not accept this token." } : {};
}
