// What the user asks for, by typed lines and by menus.

import { parse } from "./commands.js";
import { LOCAL } from "./local_commands.js";

// Bytes that the nonce adds to an event, and the usual limit of a server for an event.
const ROOM_FOR_NONCE = 40, USUAL_LIMIT = 65_536;

/** Act on a typed line. False: the line stays in the input. `page` has the parts of the page (app.js). */
export function enter(line, page) {
  const event = parse(line);
  const { partner } = page.composer;
  if (event.wrong) {
    page.log.line("alarm", event.wrong);
    return false;
  }
  if (event.local) return LOCAL[event.local](event.text, page);
  if (partner && event.type === "action") {
    page.log.line("alarm", `An action goes to the room: /query ends the talk with ${partner} first.`);
    return false;
  }
  if (page.composer.silent && (event.type === "action" || (event.type === "say" && !partner))) {
    page.log.line("alarm", "Not sent: only operators may speak in this room.");
    return false;
  }
  const meant = partner && event.type === "say" ? { type: "private", to: partner, text: event.text } : event;
  const done = act(page, meant);
  // If the server refuses it, the line returns to the input.
  if (done) page.lines.set(meant.type, line);
  return done;
}

/** The bytes of a text in a message, and the most that the server takes. */
export function sizeOf(text, { link }) {
  return { size: bytesOf({ type: "say", text }), limit: link?.welcome?.limits.message ?? USUAL_LIMIT };
}

function bytesOf(event) {
  return new TextEncoder().encode(JSON.stringify(event)).length + ROOM_FOR_NONCE;
}

/** Send an event that the user asks for. False: it is not sent, and the log says why. */
export function act(page, event) {
  const { link, log, asked } = page;
  const limit = link.welcome?.limits.message ?? USUAL_LIMIT;
  if (bytesOf(event) > limit) {
    // The server would close the connection.
    log.line("alarm", `Not sent: it exceeds the limit of ${limit} bytes for a message.`);
    return false;
  }
  if (link.state === "over") {
    log.line("alarm", "Not sent: the server closed the connection.");
    return false;
  }
  if (["say", "action", "join"].includes(event.type)) {
    link.post(event);
    log.toEnd();
    return true;
  }
  if (event.type === "nick") link.forgetNick();
  asked.add(event.type);
  const sent = request(page, event);
  if (!sent) asked.delete(event.type);
  return sent;
}

/** Go to another room. Returns whether the server is asked. */
export function go(page, room) {
  if (!room || !page.link || room === page.link.room) return false;
  page.link.post({ type: "join", room });
  return true;
}

/** Go to a message: to its room, and to its place there. No `room`: it is private, and has no place. */
export function openMessage(page, room, offset) {
  if (room && room !== page.link.room) go(page, room);
  else if (room) page.log.show?.(offset);
  page.composer.focus();
}

/** Send a request, or say that there is no connection. */
export function request({ link, log }, event) {
  if (link.ask(event)) return true;
  log.line("alarm", "Not sent: there is no connection.");
  return false;
}

/** Stop following a room. */
export function part(page, room) {
  const { link, log, rooms } = page;
  if (!rooms.names.includes(room)) {
    log.line("alarm", `You do not follow ${room}.`);
    return false;
  }
  const back = rooms.part(room);
  if (room !== rooms.current) {
    link.ask({ type: "unwatch", rooms: [room] });
  } else if (back) {
    go(page, back);
  } else {
    log.line("alarm", "You follow no other room. /join enters one, /quit leaves the chat.");
    return false;
  }
  return true;
}
