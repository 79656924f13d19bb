// Completes what is typed: commands, nicks and rooms.

import { commandOf, COMMANDS } from "./commands.js";

// Letters of a plain word from which nicks are offered while typing.
const LETTERS = 2;
const MOST = 50;

/**
 * The completions of the last word of `text`: `{from, choices, exact}`. `from` is where the word
 * begins; a choice has `put`, the text to insert, `shown` and `hint`. `people` are the nicks; the one
 * that spoke last comes first. `asked`: the user pressed Tab, and does not only type.
 */
export function completions(text, { people, rooms }, asked) {
  const from = text.search(/\S*$/u);
  const word = text.slice(from);
  const before = text.slice(0, from).trim();
  const choices = choicesFor(word, before, people, rooms, asked).slice(0, MOST);
  return { from, choices, exact: choices.some(({ put }) => put.trim() === word) };
}

function choicesFor(word, before, people, rooms, asked) {
  const isCommand = before.startsWith("/") && !before.startsWith("//");
  if (!before && word.startsWith("/") && !word.startsWith("//")) return commandsFor(word);
  if (word.startsWith("@")) return nicksFor(word, people, before ? " " : ": ");
  if (isCommand) {
    const [name, ...others] = before.slice(1).split(/\s+/u);
    const usage = commandOf(name)?.[0] ?? "";
    if (!others.length && /^\[?ROOM/u.test(usage)) return roomsFor(word, rooms, "");
    if (!others.length && /^\[?NAME/u.test(usage)) return nicksFor(word, people, " ");
    return word && asked ? nicksFor(word, people, " ") : [];
  }
  if (/^#\S/u.test(word)) return roomsFor(word, rooms, "#");
  if (word.length < (asked ? 1 : LETTERS)) return [];
  return nicksFor(word, people, before ? " " : ": ");
}

function commandsFor(word) {
  return Object.entries(COMMANDS)
    .filter(([name]) => `/${name}`.startsWith(word.toLowerCase()))
    .map(([name, [usage, help]]) => ({ put: `/${name} `, shown: `/${name} ${usage}`.trim(), hint: help }));
}

function nicksFor(word, people, end) {
  const sign = word.startsWith("@") ? "@" : "";
  const start = word.slice(sign.length).toLowerCase();
  return people.filter((nick) => nick.toLowerCase().startsWith(start)).map((nick) => ({ put: sign + nick + end, shown: nick, hint: "" }));
}

function roomsFor(word, rooms, sign) {
  const start = word.replace(/^#+/u, "").toLowerCase();
  return rooms.filter((room) => room.startsWith(start)).map((room) => ({ put: `${sign}${room} `, shown: room, hint: "" }));
}
