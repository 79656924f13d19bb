// The settings of the user, which all tabs of the browser share.

import { keep, kept } from "./storage.js";

const PREFIX = "syncchat.set.";
const listeners = new Map(); // name -> functions
const values = new Map(); // name -> the value, since reading the storage takes long

// By name: the value for a user who has chosen nothing. A value is JSON.
const USUAL = {
  theme: "auto", // or light, dark
  times: true, // The time of each message is shown.
  bell: "off", // or mention, all: what makes a sound.
  notify: null, // or true, false: whether a mention makes a notification of the desktop; null: not decided.
  ignored: [], // Nicks whose messages are hidden.
  highlights: [], // Words that count as mentions, besides the user's nick.
};

/** The value of a setting. */
export function setting(name) {
  if (!values.has(name)) values.set(name, read(name));
  return values.get(name);
}

function read(name) {
  try {
    return JSON.parse(kept("local", PREFIX + name)) ?? USUAL[name];
  } catch {
    return USUAL[name]; // Another program, or the user, has changed it.
  }
}

/** Change a setting, for all tabs. */
export function set(name, value) {
  keep("local", PREFIX + name, JSON.stringify(value));
  tell(name);
}

/** Call `listener(value)` now, and at each change of the setting in this tab or in another one. */
export function follow(name, listener) {
  listeners.set(name, [...(listeners.get(name) ?? []), listener]);
  listener(setting(name));
}

/** Whether the user ignores a person. */
export function isIgnored(nick) {
  return setting("ignored").some((each) => isSame(each, nick));
}

/** Hide what a person says from now on, or show it again. */
export function ignore(nick, on) {
  const others = setting("ignored").filter((each) => !isSame(each, nick));
  set("ignored", on ? [...others, nick] : others);
}

/** Whether two nicks or words are the same, in upper or lower case. */
export function isSame(one, two) {
  return one.toLowerCase() === two.toLowerCase();
}

function tell(name) {
  values.delete(name);
  for (const listener of listeners.get(name) ?? []) listener(setting(name));
}

addEventListener("storage", ({ key }) => key?.startsWith(PREFIX) && tell(key.slice(PREFIX.length)));
