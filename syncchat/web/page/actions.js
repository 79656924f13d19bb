// What the user asks for, by typed lines and by menus.

import { COMMANDS, parse } from "./commands.js";
import { searchedFor } from "./search.js";

// Bytes that the nonce adds to an event, and the usual limit of a server for an event.
const ROOM_FOR_NONCE = 40, USUAL_LIMIT = 65_536;

/** The commands that the page does by itself: `(event, page)`; false keeps the line in the input. */
const LOCAL = {
  __proto__: null,
  help(_event, { log }) {
    for (const [name, [usage, help]] of Object.entries(COMMANDS)) log.line("reply", `/${name} ${usage}  ${help}`);
    return true;
  },
  history(_event, { log }) {
    log.toStart();
    return true;
  },
  reconnect(_event, { link }) {
    link.open();
    return true;
  },
  part: (event, page) => part(page, event.room.replace(/^#+/u, "").toLowerCase() || page.rooms.current),
  reply(event, page) {
    if (page.whispered) return request(page, { type: "private", to: page.whispered, text: event.text });
    page.log.line("alarm", "No private message to reply to.");
    return false;
  },
};

/** Act on a typed line. False: the line stays in the input. `page` has the parts of the page (app.js). */
export function enter(line, page) {
  const event = parse(line);
  if (event.wrong) {
    page.log.line("alarm", event.wrong);
    return false;
  }
  return event.local ? LOCAL[event.local](event, page) : act(page, event);
}

/** Send an event that the user asks for. False: it is not sent, and the log says why. */
export function act(page, event) {
  const { link, log, asked } = page;
  const size = new TextEncoder().encode(JSON.stringify(event)).length + ROOM_FOR_NONCE;
  const limit = link.welcome?.limits.message ?? USUAL_LIMIT;
  if (size > limit) {
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
  if (event.type === "search") searchedFor(event.words);
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

function request({ link, log }, event) {
  if (link.ask(event)) return true;
  log.line("alarm", "Not sent: there is no connection.");
  return false;
}

/** Stop following a room. */
function part(page, room) {
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
