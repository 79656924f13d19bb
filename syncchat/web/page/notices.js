// What events of the server say to a person. What people have chosen is apart from the direction of the text around it.

import { element, nickOf } from "./text.js";
import { when } from "./times.js";

const UNITS = [[86_400, "days"], [3600, "hours"], [60, "minutes"], [1, "seconds"]];
const DONE = { kick: "removed", ban: "banned", mute: "muted", unmute: "unmuted" };

/** The text of a `whois`. */
export function whoisText({ nick, since, spoke, away, rooms = [], person, operator }) {
  const spoken = spoke ? `last spoke ${when(spoke)}` : "has not spoken yet";
  const kind = [person && "has a token of their own", operator && "is an operator here"].filter(Boolean).join(" and ");
  return [
    `${nick} has been here since ${when(since)} and ${spoken}.`,
    ...(away === undefined || away === null ? [] : [`Away${away ? `: ${away.replace(/\.$/u, "")}` : ""}.`]),
    ...(kind ? [`${nick} ${kind}.`] : []),
    ...(rooms.length ? [`Rooms: ${rooms.join(", ")}.`] : []),
  ].join(" ");
}

/** The text of a `moderated`, as nodes. */
export function moderatedText({ action, nick, by, reason, seconds }) {
  const why = reasonFor(reason);
  if (action === "op") return [nickOf(by), " made ", nickOf(nick), " an operator of this room", ...why];
  if (action === "deop") return [nickOf(by), " made ", nickOf(nick), " an ordinary member again", ...why];
  return [nickOf(by), ` ${DONE[action] ?? action} `, nickOf(nick), seconds ? ` for ${durationText(seconds)}` : "", ...why];
}

/** The text of an entry of `bans`, as nodes. */
export function banText({ target, by, since, until, reason, room }) {
  const end = until ? `until ${when(until)}` : "without an end";
  const where = room ? ["in ", element("bdi", "", room)] : ["everywhere"];
  return [nickOf(target), " is banned ", ...where, ` ${end}, by `, nickOf(by), ` since ${when(since)}`, ...reasonFor(reason)];
}

/** The text of a `topic`, as nodes. */
export function topicText({ text, by }) {
  const who = by ? [" (set by ", nickOf(by), ")"] : [];
  return text ? ["Topic: ", element("bdi", "", text), ...who] : ["There is no topic", ...who, "."];
}

/** "3 new messages since your last visit" */
export function missedText(number) {
  return `${number.toLocaleString()} new ${number === 1 ? "message" : "messages"} since your last visit`;
}

function reasonFor(reason) {
  return reason ? [": ", element("bdi", "", reason)] : ["."];
}

function durationText(seconds) {
  const [size, name] = UNITS.find(([each]) => seconds % each === 0) ?? [1, "seconds"];
  const number = seconds / size;
  return `${number} ${number === 1 ? name.slice(0, -1) : name}`;
}
