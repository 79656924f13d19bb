// What completes the word before the caret.

import { argumentsOf, COMMANDS } from "./commands.js";

// Letters of a plain word from which nicks are offered without Tab.
const ENOUGH = 2;
// Candidates to offer, and characters of a word that is completed, at most.
const MOST = 50, LONGEST = 100;
const FENCE = /^```/gmu;

/**
 * The completions of the last word of `text`: `{from, choices, wanted}`. `from` is where the word
 * begins; a choice has `put`, the text to insert, `shown` and `hint`. `wanted`: the word begins with
 * `@`, so the user asks for them. `people` are the nicks, the one that spoke last first; `speakers`
 * those of them that have spoken; only those of `words` that are needed are read. `tab`: the user has pressed Tab.
 */
export function completions(text, words, tab) {
  const from = beginOfWord(text);
  const start = text.slice(from);
  const put = (choices, wanted = false) => ({ from, choices: choices.slice(0, MOST), wanted });
  const argument = argumentAt(text.slice(0, from));
  if (/^\/(?!\/)/u.test(start) && !text.slice(0, from).trim()) return put(commands(start));
  if (argument === "ROOM" || (!argument && /^#\S/u.test(start)) || (!argument && tab && start === "#")) {
    return put(roomsFor(start, words.rooms, argument ? "" : "#"));
  }
  if (argument === "NAME") return put(nicks(words.people, start, " "));
  const inCode = (text.match(FENCE) ?? []).length % 2 === 1;
  if (!start || (inCode && !tab)) return put([]);
  if (start.startsWith("@")) return put(nicks(words.people, start, " "), true);
  if (!tab && start.length < ENOUGH) return put([]);
  const choices = nicks(tab ? words.people : words.speakers, start, from ? " " : ": ");
  // A nick that is complete needs no help.
  return put(!tab && choices.length === 1 && choices[0].shown.length === start.length ? [] : choices);
}

/** Whether the last word of `text` is the name of a room. */
export function isRoomAt(text) {
  const from = beginOfWord(text);
  return argumentAt(text.slice(0, from)) === "ROOM" || text.slice(from).startsWith("#");
}

/** Where the last word begins. A very long word is cut, since the search takes the square of its length. */
function beginOfWord(text) {
  const end = text.slice(-LONGEST);
  return text.length - end.length + end.search(/\S*$/u);
}

/** What the command at the beginning of `before` takes as the word behind `before`: NAME or ROOM; empty: a text, or there is none. */
function argumentAt(before) {
  const [, name] = /^\s*\/([^\s/]+)\s+$/u.exec(before) ?? [];
  return name ? /^\[?(NAME|ROOM)/u.exec(argumentsOf(name))?.[1] ?? "" : "";
}

function commands(start) {
  return Object.entries(COMMANDS)
    .filter(([name]) => `/${name}`.startsWith(start.toLowerCase()))
    .map(([name, [usage, help]]) => ({ put: `/${name} `, shown: `/${name} ${usage}`.trim(), hint: help }));
}

function roomsFor(start, rooms, sign) {
  const wanted = start.replace(/^#+/u, "").toLowerCase();
  const choices = rooms.filter((room) => room.startsWith(wanted));
  return choices.map((room) => ({ put: sign ? `${sign}${room} ` : room, shown: `#${room}`, hint: "" }));
}

function nicks(people, start, end) {
  const sign = start.startsWith("@") ? "@" : "";
  const wanted = start.slice(sign.length).toLowerCase();
  const choices = people.filter((nick) => nick.toLowerCase().startsWith(wanted));
  return choices.map((nick) => ({ put: sign + nick + end, shown: nick, hint: "" }));
}
