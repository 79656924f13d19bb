// The commands that the page carries out by itself.

import { act, go, request } from "./actions.js";
import { COMMANDS } from "./commands.js";
import { openSearch } from "./search.js";
import { set, setting } from "./settings.js";
import { element } from "./text.js";

const same = (one, two) => one.toLowerCase() === two.toLowerCase();

/** By name: `(event, page)`, which returns the answer, or whether to clear the input. */
const LOCAL = {
  __proto__: null,
  help({ text }, { log }) {
    const name = text.replace(/^\//u, "").toLowerCase();
    const found = Object.entries(COMMANDS).filter(([each]) => !name || each === name);
    if (!found.length) return `There is no command /${name.slice(0, 40)}.`;
    log.line("reply", element("span", "commands", ...found.flatMap(([each, [usage, help]]) => [
      element("code", "", `/${each} ${usage}`.trim()), " ", element("span", "", help), "\n",
    ])));
    return true;
  },
  history({ number }, { log }) {
    log.toStart(number);
    return true;
  },
  search({ words }, page) {
    openSearch(page, words);
    return true;
  },
  clear(_event, { log }) {
    log.wipe();
    return true;
  },
  reconnect(_event, { link }) {
    link.open();
    return true;
  },
  room({ room }, page) {
    const name = room.replace(/^#+/u, "").toLowerCase();
    if (!name) return `You follow ${page.rooms.names.join(", ")}.`;
    if (!page.rooms.names.includes(name)) return no(page, `You do not follow ${name}. /join ${name} enters it.`);
    go(page, name);
    return true;
  },
  part({ room }, page) {
    return part(page, room.replace(/^#+/u, "").toLowerCase() || page.rooms.current);
  },
  reply({ text }, page) {
    if (!page.whispered) return no(page, "No private message to reply to.");
    return request(page, { type: "private", to: page.whispered, text }, `/msg ${page.whispered} ${text}`);
  },
  query({ text }, page) {
    if (!text && !page.partner) return no(page, "Usage: /query NAME");
    page.partner = text;
    page.showHint();
    return text ? `What you type goes to ${text} alone now. /query alone ends this.` : "What you type goes to the room again.";
  },
  ignore({ text }, { link }) {
    const ignored = setting("ignored");
    if (!text) return ignored.length ? `You ignore ${ignored.join(", ")}.` : "You ignore nobody.";
    if (same(text, link.called)) return "You cannot ignore yourself.";
    if (!ignored.some((each) => same(each, text))) set("ignored", [...ignored, text]);
    return `You ignore ${text} now. /unignore ${text} undoes it.`;
  },
  unignore: ({ text }) => (without("ignored", text) ? `You no longer ignore ${text}.` : `You do not ignore ${text}.`),
  highlight({ text }) {
    const marked = setting("highlights");
    if (!text) return marked.length ? `Marked: ${marked.join(", ")}.` : "No word is marked but your nick.";
    if (!marked.some((each) => same(each, text))) set("highlights", [...marked, text]);
    return `${text} is marked now, and rings. /unhighlight ${text} undoes it.`;
  },
  unhighlight: ({ text }) => (without("highlights", text) ? `${text} is no longer marked.` : `${text} is not marked.`),
  bell({ text }) {
    if (text) set("bell", text);
    return `The bell is set to ${setting("bell")}.`;
  },
  timestamp({ text }) {
    set("times", text ? text !== "off" : !setting("times"));
    return `Timestamps are ${setting("times") ? "on" : "off"}.`;
  },
};

/** Carry out a command of the page. False: the line stays in the input. */
export function carryOut(event, page) {
  const answer = LOCAL[event.local](event, page);
  if (typeof answer === "string") page.log.line("reply", answer);
  return answer !== false;
}

function no({ log }, text) {
  log.line("alarm", text);
  return false;
}

/** Remove a word from a list of the settings. Returns whether it was there. */
function without(name, word) {
  const before = setting(name);
  const after = before.filter((each) => !same(each, word));
  if (after.length < before.length) set(name, after);
  return after.length < before.length;
}

/** Stop following a room. */
export function part(page, room) {
  const { link, rooms } = page;
  if (!rooms.names.includes(room)) return no(page, `You do not follow ${room}.`);
  const back = rooms.part(room);
  if (room !== rooms.current) return link.ask({ type: "unwatch", rooms: [room] }), true;
  if (back) return go(page, back);
  return no(page, "You follow no other room. /join enters one, /quit leaves the chat.");
}
