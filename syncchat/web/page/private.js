// The private messages of this tab, which are shown again in the next room and
// when the page is loaded again.

import { keep, kept } from "./storage.js";

const MOST = 100;
// Characters of all of them together, at most.
const LARGEST = 200_000;

/**
 * The private messages that were kept, the oldest first. `base`: the path of the server. `person`:
 * whose they are; undefined: a guest's.
 */
export function keptPrivate(base, person) {
  try {
    const events = JSON.parse(kept("session", keyOf(base, person)) ?? "[]");
    return events.filter(({ nick, to, text, time }) => [nick, to, text].every((each) => typeof each === "string") && Number.isFinite(time));
  } catch {
    return []; // Another program, or the user, has changed them.
  }
}

export function keepPrivate(base, person, { nick, to, text, time }) {
  const events = [...keptPrivate(base, person), { nick, to, text, time }].slice(-MOST);
  while (JSON.stringify(events).length > LARGEST) events.shift();
  keep("session", keyOf(base, person), JSON.stringify(events));
}

function keyOf(base, person = "") {
  return `syncchat.private ${base}${person}`;
}
