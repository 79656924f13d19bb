// One line of the log as nodes: a message, or a line of the page.

import { mentions } from "./attention.js";
import { bodyOf } from "./blocks.js";
import { setting } from "./settings.js";
import { colourOf, element, nickOf } from "./text.js";
import { dateOf, dayText, momentText, timeText } from "./times.js";

// What is shown of a long message until the user asks for all of it.
const LINES = 20, CHARACTERS = 2000;
// Seconds within which messages of one person share a head.
const TOGETHER = 300;

/**
 * An item of the log: `{node, nick, time, offset, day, message, joins}`. `message` is as the server
 * sends it; items without an offset are lines of the page.
 */
export function itemOf(message, own) {
  const date = dateOf(message.time);
  const item = { offset: message.offset ?? null, nick: message.nick, time: message.time, message, day: date ? dayText(date) : "" };
  item.node = element("li");
  if (item.offset !== null) item.node.dataset.offset = item.offset;
  fill(item, own);
  return item;
}

/** A line of the page itself. `kind` is notice, reply or alarm. */
export function lineOf(kind, ...children) {
  const text = element("p", "", ...children);
  text.dir = "auto";
  return { offset: null, nick: null, time: 0, message: null, day: "", node: element("li", `line ${kind}`, text) };
}

/** Hide the text of a message. */
export function redact(item, own) {
  item.message = { ...item.message, kind: "redacted", text: "" };
  fill(item, own);
}

/** Adapt an item to the one before it: whether it begins a day, or goes on with what a person says. */
export function adapt(item, before, mark) {
  const { node } = item;
  const begins = item.day && item.day !== before?.day;
  const goesOn = !begins && !mark && item.joins && before?.joins && before.nick === item.nick && item.time - before.time < TOGETHER;
  node.classList.toggle("follows", Boolean(goesOn));
  rule(node, "mark", mark);
  rule(node, "day", begins ? item.day : "");
  // Lines of the page belong to the day of what is before them.
  item.day ||= before?.day ?? "";
}

/** Show `text` between this item and the one before it; empty: nothing. */
function rule(node, kind, text) {
  const shown = node.querySelector(`:scope > .${kind}`);
  if (shown?.textContent === text) return;
  shown?.remove();
  if (text) node.prepend(element("p", kind, element("span", "", text)));
}

function fill(item, own) {
  const { message, node } = item;
  const { kind, nick, text } = message;
  const date = dateOf(message.time);
  const time = element("time", "", date ? timeText(date) : "");
  if (date) {
    time.dateTime = date.toISOString();
    time.title = `${momentText(date)}${message.offset ? `, message ${message.offset}` : ""}`;
  }
  const words = nick === own ? [] : [own, ...setting("highlights")];
  const body = element("div", "body");
  item.joins = kind === "message" || kind === "redacted";
  node.className = `message ${kind}${nick !== own && kind !== "redacted" && mentions(text, own) ? " mention" : ""}${nick === own ? " own" : ""}`;
  if (kind === "redacted") {
    body.append(element("p", "removed", "message removed"));
  } else if (kind === "redaction") {
    item.joins = false;
    body.append(element("p", "", nickOf(nick), ` removed message ${text}.`));
  } else if (kind === "action") {
    body.append(element("p", "", "* ", nickOf(nick), " "), ...partOf(text, words));
  } else {
    body.append(...partOf(text, words));
  }
  const head = element("div", "head");
  if (kind !== "action" && kind !== "redaction") head.append(pictureOf(nick), nickOf(nick), element("span", "unseen", ": "));
  if (message.heading) head.append(element("span", "heading", message.heading));
  head.append(time);
  node.replaceChildren(head, body);
}

/** The first letter of a nick, as a picture. */
function pictureOf(nick) {
  const picture = element("span", "picture");
  picture.dataset.letter = [...nick][0].toUpperCase();
  picture.style.setProperty("color", `var(--nick-${colourOf(nick)})`);
  return picture;
}

/** The nodes of a text; of a long one, the beginning and a button that shows the rest. */
function partOf(text, words) {
  const end = endOfPart(text);
  const part = bodyOf(text.slice(0, end), words);
  if (end === text.length) return part;
  const all = element("button", "all", "Show all");
  all.type = "button";
  all.addEventListener("click", () => {
    for (const node of part) node.remove();
    all.replaceWith(...bodyOf(text, words));
  });
  return [...part, all];
}

/** Where the part of a text ends that is shown at first. */
function endOfPart(text) {
  let end = text.length;
  for (let line = 0, at = -1; line < LINES; line += 1) {
    at = text.indexOf("\n", at + 1);
    if (at < 0) break;
    if (line === LINES - 1) end = at;
  }
  end = Math.min(end, CHARACTERS);
  // Half of a surrogate pair is no character.
  return end < text.length && /[\uD800-\uDBFF]/u.test(text[end - 1]) ? end - 1 : end;
}
