// What the user asks for, by typed lines and by menus.

import { parse } from "./commands.js";
import { LOCAL } from "./local_commands.js";
import { ignore } from "./settings.js";

// Bytes that the nonce adds to an event, and the usual limit of a server for an event.
const ROOM_FOR_NONCE = 40, USUAL_LIMIT = 65_536;
// Events that are sent again after a break, until the server has answered them.
const POSTED = new Set(["say", "action", "join"]);

/** Act on a typed line. False: the line stays in the input. `page` has the parts of the page (app.js). */
export function enter(line, page) {
  const event = parse(line);
  if (event.wrong) {
    page.log.line("alarm", event.wrong);
    return false;
  }
  // The answer comes at the end of the log.
  if (!["history", "search"].includes(event.local)) page.log.toEnd();
  if (event.local) return LOCAL[event.local](event.text, page);
  const { partner, silent } = page.composer;
  const isSaid = event.type === "say" || event.type === "action";
  if (partner && event.type === "say") return act(page, { type: "private", to: partner, text: event.text }, line);
  if (partner && event.type === "action") {
    page.log.line("alarm", `An action goes to the room: /query ends the talk with ${partner} first.`);
    return false;
  }
  if (silent && isSaid) {
    page.log.line("alarm", "Not sent: this room is read-only.");
    return false;
  }
  return act(page, event, line);
}

/** Send an event that the user asks for by `line`, or by a menu. False: it is not sent, and the log says why. */
export function act(page, event, line = "") {
  const { link, log, asked } = page;
  const limit = limitOf(page);
  if (sizeOf(event) > limit) {
    // The server would close the connection.
    log.line("alarm", `Not sent: it exceeds the limit of ${limit} bytes for a message.`);
    return false;
  }
  if (link.state === "over") {
    log.line("alarm", asked.has("quit") ? "Not sent: you have left." : "Not sent: the server closed the connection.");
    return false;
  }
  if (POSTED.has(event.type)) {
    link.post(event);
    // An answer to the others has the event.
    if (event.type === "join") asked.set("join", line);
    return true;
  }
  if (event.type === "nick") link.forgetNick();
  return request(page, event, line);
}

/** Send a request once, and remember the line that asked for it. False: there is no connection. */
export function request({ link, log, asked, whispers }, event, line = "") {
  if (link.ask(event, true)) {
    asked.set(event.type, line);
    if (event.type === "private") whispers.push({ ...event, line });
    return true;
  }
  log.line("alarm", "Not sent: there is no connection.");
  return false;
}

/** Hide what a person says from now on, or show it again, and tell the user. */
export function ignorePerson({ log }, nick, on) {
  ignore(nick, on);
  log.line("reply", on ? `You ignore ${nick} now. /unignore ${nick} undoes it.` : `You no longer ignore ${nick}.`);
}

/** Go to another room. Returns whether the server is asked. */
export function go(page, room) {
  if (!room || !page.link || room === page.link.heading) return false;
  page.link.post({ type: "join", room });
  return true;
}

/** Go to a message: to its room, and to its place there. No `room`: it is private, and has no place. */
export function openMessage(page, room, offset) {
  if (room) page.address.open(room, offset);
  page.composer.focus();
}

/** The size of an event, in bytes. */
export function sizeOf(event) {
  return new TextEncoder().encode(JSON.stringify(event)).length + ROOM_FOR_NONCE;
}

/** The server's limit for a message, in bytes. */
export function limitOf({ link }) {
  return link?.welcome?.limits.message ?? USUAL_LIMIT;
}
