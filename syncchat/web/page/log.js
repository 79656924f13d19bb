// The list of messages, which is kept short so that the page stays fast.

import { element, nickOf, rich } from "./text.js";

// Lines to keep while the user reads the newest; four times as many otherwise.
const MOST = 600;
// Milliseconds between two updates of a hidden page.
const HIDDEN = 250;
// Pixels from the end within which the user counts as reading the newest messages.
const NEAR = 80;

/** Calls `older(offset)` for messages before `offset` when the user scrolls to the first one. */
export class Log {
  #list = document.getElementById("log");
  #scroller = document.getElementById("talk");
  #older = document.getElementById("older");
  #newest = document.getElementById("newest");
  #day = "";
  #first = null; // The lowest offset that is shown.
  #complete = false; // The server has no older messages.
  #asking = false; // older() was called, and is not answered yet.
  #ended = false; // The server's log has begun anew.
  #fresh = []; // Lines that are not in the list yet.
  #follow = true; // The user was reading the newest messages at the last scroll.
  #read = 0; // The last offset that the user had read on entering, and the text of the mark behind it.
  #mark = "";

  constructor(older) {
    this.older = older;
    this.#scroller.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    this.#newest.addEventListener("click", () => {
      this.toEnd();
      document.getElementById("input").focus();
    });
    // A hidden page runs no animation frames: add the lines that wait for one.
    document.addEventListener("visibilitychange", () => this.#fresh.length && this.#flush());
    // The size changes when a phone shows its keyboard, or the user resizes the window.
    new ResizeObserver(() => {
      if (this.#follow) this.toEnd();
      this.#fill();
    }).observe(this.#scroller);
  }

  /** Whether the user reads the newest messages. */
  get atEnd() {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroller;
    return scrollHeight - scrollTop - clientHeight < NEAR;
  }

  toEnd() {
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
    this.#follow = true;
    this.#newest.hidden = true;
  }

  /** Scroll to the oldest message, and load older ones. */
  toStart() {
    this.#scroller.scrollTop = 0;
    this.#scrolled();
  }

  /** Remove everything, for another room. */
  clear() {
    this.#ended = false;
    this.#list.replaceChildren();
    this.#fresh.length = 0;
    this.#first = null;
    this.#complete = this.#asking = false;
    this.#day = "";
    this.#older.hidden = true;
    this.#mark = "";
  }

  /** Whether there is no message of the room's log. */
  get empty() {
    return this.#first === null;
  }

  /** Show a mark with this text behind the message of this offset. Call it before `past()`. */
  mark(offset, text) {
    this.#read = offset;
    this.#mark = text;
  }

  /** The server's log has begun anew: ask for no older messages. */
  anew() {
    this.#ended = true;
  }

  /** The request for older messages is not going to be answered. */
  unanswered() {
    this.#asking = false;
  }

  /** Add the newest message of the room's log. `nick` is the user's. */
  message(message, nick) {
    this.#first ??= message.offset;
    const day = dayOf(message.time);
    if (day !== this.#day) {
      this.#day = day;
      this.#append(element("li", "day", day));
    }
    this.#append(lineOf(message, nick));
    if (message.kind === "redaction") this.#redact(message.text);
  }

  /** Add older messages, the oldest first. `complete`: there are no older ones. */
  past(messages, complete, nick) {
    this.#asking = false;
    this.#complete = complete;
    const { scrollHeight, scrollTop } = this.#scroller;
    const behind = this.#first ?? 0; // The offset of the message behind these; 0: there is none.
    const fresh = messages.filter((message) => this.empty || message.offset < behind);
    if (fresh.length) this.#first = fresh[0].offset;
    // A screen reader must not read all of these aloud.
    this.#list.setAttribute("aria-live", "off");
    const nodes = [];
    let day = "";
    for (const [at, message] of fresh.entries()) {
      if (dayOf(message.time) !== day) nodes.push(element("li", "day", (day = dayOf(message.time))));
      nodes.push(lineOf(message, nick));
      const next = fresh[at + 1]?.offset ?? behind;
      if (this.#mark && message.offset <= this.#read && next > this.#read) nodes.push(element("li", "mark", this.#mark));
    }
    const top = this.#list.firstElementChild;
    if (top?.className === "day" && top.textContent === day) top.remove();
    this.#list.prepend(...nodes);
    this.#day ||= day;
    this.#fill();
    this.#scroller.scrollTop = scrollTop + this.#scroller.scrollHeight - scrollHeight;
    requestAnimationFrame(() => this.#list.setAttribute("aria-live", "polite"));
    this.#older.hidden = !this.#complete;
    this.#older.textContent = this.#complete ? "Beginning of the history." : "";
  }

  /** Add a line of the system; `kind` is notice, reply or alarm. */
  line(kind, ...children) {
    this.#append(element("li", kind, ...children));
  }

  /** Add a message that was found by a search, with its moment. */
  found(message, moment) {
    const line = element("li", "reply", `${moment} `, nickOf(message.nick), ": ", ...textOf(message, ""));
    line.dataset.found = message.offset;
    this.#append(line);
  }

  /** Add a message of another room, which mentions the user. */
  elsewhere(room, message, nick) {
    this.#append(element("li", "elsewhere", timeOf(message.time), `[${room}] `, nickOf(message.nick), ": ", ...textOf(message, nick)));
  }

  /** Hide the text of the message with this offset, which is a text. */
  #redact(offset) {
    const lines = [...this.#list.children, ...this.#fresh];
    for (const line of lines.filter(({ dataset }) => dataset.offset === offset || dataset.found === offset)) {
      const nick = line.querySelector(".nick");
      while (nick.nextSibling) nick.nextSibling.remove();
      if (nick.previousSibling?.data === "** ") nick.previousSibling.remove();
      line.classList.replace("action", "said");
      nick.after(": ", removed());
    }
  }

  /** Add a private message. */
  private(event, nick) {
    const mine = event.nick === nick;
    this.#append(element("li", "private", timeOf(event.time), mine ? "to " : "from ",
      nickOf(mine ? event.to : event.nick), ": ", ...rich(event.text, "")));
  }

  #append(node) {
    this.#fresh.push(node);
    // Collect lines until the next animation frame; a hidden page has none.
    if (this.#fresh.length > 1) return;
    if (document.hidden) setTimeout(() => this.#flush(), HIDDEN);
    else requestAnimationFrame(() => this.#flush());
  }

  #flush() {
    const fresh = this.#fresh;
    this.#fresh = [];
    const follow = this.#follow;
    // Keep more lines while the user reads old ones, but a limited number, to bound the memory.
    const most = follow ? MOST : 4 * MOST;
    this.#list.append(...fresh);
    while (this.#list.childElementCount > most) this.#dropFirst();
    if (follow) this.toEnd();
    else this.#newest.hidden = false;
    this.#fill();
  }

  /** Load older messages if everything fits on the screen: then the user cannot scroll to them. */
  #fill() {
    if (this.#scroller.scrollHeight <= this.#scroller.clientHeight) this.#scrolled();
  }

  #dropFirst() {
    const dropped = this.#list.firstElementChild;
    dropped.remove();
    if (dropped.dataset.offset) {
      this.#first = Number(dropped.dataset.offset) + 1;
      this.#complete = false;
    }
  }

  #scrolled() {
    this.#follow = this.atEnd;
    if (this.#follow) this.#newest.hidden = true;
    if (this.#scroller.scrollTop > 200 || this.#asking || this.#complete || this.#first === null) return;
    if (this.#ended || this.#first <= 1 || this.#list.childElementCount >= 4 * MOST) return;
    this.#asking = this.older(this.#first);
  }
}

function lineOf(message, nick) {
  const time = timeOf(message.time, message.offset);
  const text = textOf(message, nick);
  let line;
  if (message.kind === "redaction") {
    line = element("li", "notice", time, nickOf(message.nick), ` removed message ${message.text}.`);
  } else if (message.kind === "action") {
    line = element("li", "action", time, "** ", nickOf(message.nick), " ", ...text);
  } else {
    line = element("li", "said", time, nickOf(message.nick), ": ", ...text);
  }
  line.dataset.offset = message.offset;
  return line;
}

/** The text of a message as nodes, with the user's nick marked. */
function textOf({ kind, nick: from, text }, nick) {
  return kind === "redacted" ? [removed()] : rich(text, from === nick ? "" : nick);
}

function removed() {
  return element("em", "removed", "message removed");
}

/** The time of a message; it tells the message's number to those who point at it. */
function timeOf(seconds, offset) {
  const moment = new Date(seconds * 1000);
  if (Number.isNaN(moment.getTime())) return "";
  const shown = element("time", "", moment.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }));
  shown.dateTime = moment.toISOString();
  shown.title = `${moment.toLocaleString()}${offset ? `, message ${offset}` : ""}`;
  return shown;
}

function dayOf(seconds) {
  const moment = new Date(seconds * 1000);
  if (Number.isNaN(moment.getTime())) return "";
  return moment.toLocaleDateString([], { weekday: "long", year: "numeric", month: "long", day: "numeric" });
}
