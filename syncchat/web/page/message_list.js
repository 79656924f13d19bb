// The list of messages: a range of the room's log without a hole, with the page's own lines between.

import { element } from "./text.js";
import { dayOf, dayText } from "./times.js";

// Messages in the list, at most, and their size, in characters.
export const MOST = 500;
const SIZE = 1_000_000;
// What an element takes, in characters: one message may have a hundred elements, and drawing takes
// longest for these.
const ELEMENT = 100;
// What one change of the list may draw, and how much of a message that is at most: a long one is folded.
const DRAWN = 100_000, FOLDED = 2000;
// Scripts that need other fonts take longer: what a character of them takes in addition, in characters.
const LATIN = /[\0-\u024F]+/gu, FOREIGN = 16;
// Lines of the page itself that are kept, at most, and characters in them.
const LINES = 200, LINES_SIZE = 500_000;
// Seconds within which messages of one person are a group.
const GROUP = 300;

/**
 * An entry is `{offset, message, node, size, nick, called}`: a message, or a line of the page, which
 * has no `message` and stands behind the message of its offset. `called` is the present nick of an
 * ignored person who has changed it. `make(message)` makes the list item of a message, `isIgnored(nick)`
 * says whether to hide what a person says.
 */
export class MessageList {
  #list = document.getElementById("log");
  #entries = []; // In the list, in its order.
  #lines = []; // All lines, in the list or not, the oldest first.
  #linesSize = 0;
  #read = 0; // The last offset that the user had read on entering, and the text of the mark behind it.
  #mark = "";
  #size = 0; // Characters of the messages in the list,
  #count = 0; // and how many messages these are.

  constructor({ make, isIgnored }) {
    Object.assign(this, { make, isIgnored });
    this.clear();
  }

  /** Remove everything. */
  clear() {
    this.#lines = [];
    this.#linesSize = 0;
    this.#mark = "";
    this.empty();
  }

  /** Remove everything from the list, but keep the lines. */
  empty() {
    this.#list.replaceChildren();
    for (const entry of this.#entries) entry.shown = false;
    this.#entries = [];
    this.#size = this.#count = 0;
    this.first = this.last = null; // The offsets of the first and the last message in the list.
    this.begins = false; // The first message of the log is in the list.
    this.live = true; // The newest message of the log is in the list.
  }

  get count() {
    return this.#count;
  }

  /** The entries in the list. */
  get entries() {
    return this.#entries;
  }

  /** Show a mark with this text behind the message of this offset. */
  mark(offset, text) {
    this.#read = offset;
    this.#mark = text;
  }

  /** The entry of a message in the list; undefined: it is not there. */
  at(offset) {
    return this.#entries.find((entry) => entry.message?.offset === offset);
  }

  /** Find the places of lines that have only a time, among messages; `ends`: with the last message of the log. */
  #place(messages, ends) {
    for (const line of this.#lines.filter(({ offset }) => Number.isNaN(offset))) {
      const behind = messages.findIndex(({ message }) => message.time > line.time);
      if (behind > 0 || (behind === 0 && this.begins)) line.offset = messages[behind].offset - 1;
      else if (behind < 0 && ends) line.offset = messages.at(-1)?.offset ?? 0;
    }
  }

  /** Keep a line, which `addNewer()` puts into the list. Without an offset it stands behind all messages. */
  keep(node, offset, nick, size) {
    const entry = { offset: offset ?? Infinity, message: null, node, nick, size, before: [] };
    this.#lines.push(entry);
    this.#linesSize += entry.size;
    while (this.#lines.length > LINES || this.#linesSize > LINES_SIZE) {
      const old = this.#lines.shift();
      this.#linesSize -= old.size;
      if (old.shown) this.#remove(this.#entries.indexOf(old), 1);
    }
    return entry;
  }

  /** The last line that was kept. */
  get lastLine() {
    return this.#lines.at(-1);
  }

  /** The newest message has this offset: the lines without an offset stand behind it. */
  settle(offset) {
    for (const line of this.#lines) if (line.offset === Infinity) line.offset = offset;
  }

  /**
   * Entries for as many of the messages as one change may draw: the first ones, or with `fromEnd`
   * the last ones; at least one.
   */
  draw(messages, fromEnd) {
    const entries = [];
    let left = DRAWN;
    for (const message of fromEnd ? messages.toReversed() : messages) {
      const node = this.make(message);
      const elements = ELEMENT * node.getElementsByTagName("*").length, { length } = message.text;
      const shown = message.text.slice(0, FOLDED);
      left -= elements + shown.length + FOREIGN * shown.replace(LATIN, "").length;
      if (left < 0 && entries.length) break;
      entries.push({ offset: message.offset, message, node, nick: message.nick, size: elements + length, before: [] });
    }
    return fromEnd ? entries.reverse() : entries;
  }

  /** Whether messages of `draw()` can be added without dropping others. */
  fits(messages) {
    return this.#count + messages.length <= MOST && messages.reduce((sum, { size }) => sum + size, this.#size) <= SIZE;
  }

  /** Add messages of `draw()` behind the last one; without messages, only lines. */
  addNewer(messages) {
    const from = this.last ?? -Infinity;
    this.#count += messages.length;
    const to = this.live ? Infinity : (messages.at(-1)?.offset ?? this.last);
    const entries = this.#merged(messages, from, to);
    const at = this.#entries.length;
    this.#entries.push(...entries);
    this.#list.append(...entries.map(({ node }) => node));
    this.#bounds();
    this.#connect(at, entries.length);
  }

  /** Add messages of `draw()` before the first one. */
  addOlder(messages) {
    this.#place(messages, true);
    let from = this.begins ? -Infinity : (messages[0]?.offset ?? this.first), to = this.first - 1;
    if (this.first === null) {
      // There are only lines, which stand before, between or behind the messages.
      this.#remove(0, this.#entries.length);
      from = -Infinity;
      to = Infinity;
    }
    this.#count += messages.length;
    const entries = this.#merged(messages, from, to);
    this.#entries.unshift(...entries);
    this.#list.prepend(...entries.map(({ node }) => node));
    this.#bounds();
    this.#connect(0, entries.length);
  }

  /** Drop what is too much, from the end or from the begin. */
  fit(fromEnd) {
    let count = this.#count, size = this.#size, number = 0;
    while (count > 1 && (count > MOST || size > SIZE)) {
      const { message, size: less } = this.#entries.at(fromEnd ? -1 - number : number);
      number += 1;
      if (!message) continue;
      count -= 1;
      size -= less;
    }
    if (!number) return;
    if (fromEnd) this.live = false;
    else this.begins = false;
    this.#remove(fromEnd ? this.#entries.length - number : 0, number);
  }

  /** The log has begun anew: what is shown becomes lines before its first message. */
  anew() {
    const old = this.#entries;
    for (const { node } of old) delete node.dataset.offset;
    this.clear();
    for (const { node, nick, size } of old.slice(-LINES)) this.keep(node, 0, nick, size);
    this.addNewer([]);
  }

  /** An ignored person has another nick now, by which it is known what else to hide. */
  renamed(old, nick) {
    for (const entry of [...this.#entries, ...this.#lines]) {
      if (entry.called === old || (!entry.called && entry.nick === old)) entry.called = nick;
    }
  }

  /** Hide the text of the message with this offset. */
  redact(offset) {
    const entry = this.at(offset);
    if (!entry || entry.message.kind === "redaction") return;
    this.#size -= entry.size;
    entry.size = 0;
    entry.message = { ...entry.message, kind: "redacted", text: "" };
    this.#remake(entry);
    this.#connect(this.#entries.indexOf(entry), 1);
  }

  /** Make all messages again, since what is marked or hidden has changed. */
  remake() {
    for (const entry of this.#entries) if (entry.message) this.#remake(entry);
    this.#connect(0, this.#entries.length);
  }

  #remake(entry) {
    // The item stays, with its place and the focus.
    const made = this.make(entry.message);
    entry.node.className = made.className;
    entry.node.replaceChildren(...made.childNodes);
  }

  /** Entries of messages, with those of the lines from one offset to another that are not in the list. */
  #merged(entries, from, to) {
    for (const { size } of entries) this.#size += size;
    const lines = this.#lines.filter((line) => !line.shown && line.offset >= from && line.offset <= to);
    const all = lines.length ? [...entries, ...lines].sort((one, two) => one.offset - two.offset) : entries;
    for (const entry of all) entry.shown = true;
    return all;
  }

  #remove(at, number) {
    for (const entry of this.#entries.splice(at, number)) {
      for (const node of [...entry.before, entry.node]) node.remove();
      entry.before = [];
      entry.shown = false;
      if (!entry.message) continue;
      this.#count -= 1;
      this.#size -= entry.size;
    }
    this.#bounds();
    this.#connect(at, 1);
  }

  #bounds() {
    this.first = this.#entries.find(({ message }) => message)?.offset ?? null;
    this.last = this.#entries.findLast(({ message }) => message)?.offset ?? null;
  }

  /** Put days and marks before `number` entries and group them, and those behind as far as that changes them. */
  #connect(at, number) {
    const visible = (entry) => !entry.node.hidden;
    let previous = this.#entries.slice(0, at).findLast(visible);
    let message = this.#entries.slice(0, at).findLast((entry) => entry.message);
    for (let index = at; index < this.#entries.length; index += 1) {
      const entry = this.#entries[index];
      const before = `${entry.since} ${entry.node.className} ${entry.before.length}`;
      this.#set(entry, previous, message);
      const same = before === `${entry.since} ${entry.node.className} ${entry.before.length}`;
      if (same && index >= at + number && entry.message) return;
      if (visible(entry)) previous = entry;
      if (entry.message) message = entry;
    }
  }

  /** Set what depends on the visible entry and on the message before. */
  #set(entry, previous, before) {
    const { node, message } = entry;
    node.hidden = entry.nick !== "" && this.isIgnored(entry.called ?? entry.nick);
    for (const each of entry.before) each.remove();
    entry.before = [];
    if (!message) return;
    if (!before || dayOf(before.message.time) !== dayOf(message.time)) {
      entry.before.push(element("li", "day", element("span", "", dayText(message.time))));
    }
    if (this.#mark && before && before.offset <= this.#read && message.offset > this.#read) {
      entry.before.push(element("li", "mark", element("span", "", this.#mark)));
    }
    node.before(...entry.before);
    const isSpeech = (each) => ["message", "redacted"].includes(each?.message?.kind);
    const continues = !entry.before.length && isSpeech(entry) && isSpeech(previous) && previous.nick === entry.nick
      && message.time - previous.since < GROUP;
    entry.since = continues ? previous.since : message.time;
    node.classList.toggle("continued", continues);
  }
}
