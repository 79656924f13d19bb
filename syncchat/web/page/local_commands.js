// The commands that the page carries out by itself.

import { go, ignorePerson, request } from "./actions.js";
import { explanation, HELP, nameIn } from "./commands.js";
import { openSearch } from "./search.js";
import { isIgnored, isSame, set, setting } from "./settings.js";
import { element } from "./text.js";

const BELLS = ["off", "mention", "all"];

/** By name: `(text, page)`; false keeps the line in the input. The answers are those of the terminal client. */
export const LOCAL = {
  __proto__: null,
  help(text, { log }) {
    log.line("reply", text ? explanation(text) : helpList());
    return true;
  },
  history(text, page) {
    page.log.toStart(Number(text) || undefined);
    return true;
  },
  search(text, page) {
    openSearch(page, text);
    return true;
  },
  clear(_text, { log }) {
    log.wipe();
    return true;
  },
  reconnect(_text, { link }) {
    link.open();
    return true;
  },
  part: (text, page) => part(page, text.replace(/^#+/u, "").toLowerCase() || page.rooms.current),
  room(text, page) {
    const { names, recent, current } = page.rooms;
    if (!text) return answer(page, `You follow ${names.join(", ")}. /room NAME goes there.`);
    const found = bestMatch(text, [...new Set([...recent, ...page.known])]);
    if (!found) return refuse(page, `No room is like ${text}. /join ${text} enters a new room.`);
    if (found === current) return answer(page, `You are in ${found}.`);
    return go(page, found);
  },
  reply(text, page) {
    if (!page.whispered) return refuse(page, "No private message to reply to.");
    return request(page, { type: "private", to: page.whispered, text }, `/msg ${page.whispered} ${text}`);
  },
  query(text, page) {
    const before = page.composer.partner;
    page.composer.partner = nameIn(text);
    if (text) return answer(page, `What you type goes to ${page.composer.partner} now. /query ends that.`);
    return answer(page, before ? `What you type goes to the room again, not to ${before}.` : "What you type goes to the room.");
  },
  ignore(text, page) {
    const nick = nameIn(text), ignored = setting("ignored");
    if (/\s/u.test(text)) return refuse(page, "Usage: /ignore [NAME]");
    if (!nick) return answer(page, ignored.length ? `You ignore ${ignored.join(", ")}.` : "You ignore nobody.");
    if (isSame(nick, page.link.called)) return refuse(page, "You cannot ignore yourself.");
    const known = [...page.people.others(page.link.called), ...[...document.querySelectorAll("#log .nick")].map((each) => each.textContent)];
    const right = known.find((each) => isSame(each, nick));
    if (!right) return refuse(page, `${nick} is not in this room and has sent no message.`);
    ignorePerson(page, right, true);
    return true;
  },
  unignore(text, page) {
    const nick = nameIn(text);
    if (!isIgnored(nick)) return refuse(page, `You do not ignore ${nick}.`);
    ignorePerson(page, nick, false);
    return true;
  },
  highlight(word, page) {
    const marked = setting("highlights");
    if (!word) return answer(page, marked.length ? `Marked: ${marked.join(", ")}.` : "No word is marked but your nick.");
    if (!marked.some((each) => isSame(each, word))) set("highlights", [...marked, word]);
    return answer(page, `${word} is marked now, and rings. /unhighlight ${word} undoes it.`);
  },
  unhighlight(word, page) {
    const marked = setting("highlights");
    if (!marked.some((each) => isSame(each, word))) return refuse(page, `${word} is not marked.`);
    set("highlights", marked.filter((each) => !isSame(each, word)));
    return answer(page, `${word} is no longer marked.`);
  },
  timestamp(text, page) {
    // The name of the terminal client's format works like "on".
    const wanted = { __proto__: null, "": !setting("times"), on: true, "hh:mm": true, off: false }[text.toLowerCase()];
    if (wanted === undefined) return refuse(page, "Usage: /timestamp [on|off]");
    set("times", wanted);
    return answer(page, `Timestamps are ${wanted ? "on" : "off"}.`);
  },
  bell(text, page) {
    const wanted = text.toLowerCase();
    if (wanted && !BELLS.includes(wanted)) return refuse(page, "Usage: /bell [off|mention|all]");
    if (wanted) set("bell", wanted);
    return answer(page, `The bell is set to ${setting("bell")}.`);
  },
};

function answer({ log }, text) {
  log.line("reply", text);
  return true;
}

function refuse({ log }, text) {
  log.line("alarm", text);
  return false;
}

/** Stop following a room. */
function part(page, room) {
  const { link, rooms } = page;
  if (!rooms.names.includes(room)) return refuse(page, `You do not follow ${room}.`);
  const back = rooms.part(room);
  if (room !== rooms.current) return link.ask({ type: "unwatch", rooms: [room] }), true;
  if (back) return go(page, back);
  return refuse(page, "You follow no other room. /join enters one, /quit leaves the chat.");
}

/** The room whose name begins with what was typed, or else contains it, or else its characters in that order. */
function bestMatch(typed, rooms) {
  const wanted = typed.replace(/^#+/u, "").toLowerCase();
  const inOrder = (name) => [...wanted].reduce((at, sign) => (at < 0 ? at : name.indexOf(sign, at) + 1 || -1), 0) >= 0;
  const fits = [(name) => name === wanted, (name) => name.startsWith(wanted), (name) => name.includes(wanted), inOrder];
  return fits.map((fit) => rooms.find(fit)).find(Boolean);
}

function helpList() {
  const groups = HELP.map(({ title, rows }) => element("section", "",
    element("b", "", title),
    element("dl", "", ...rows.map(([usage, help]) => element("div", "", element("dt", "", usage), " ", element("dd", "", help))))));
  return element("div", "help", ...groups);
}
