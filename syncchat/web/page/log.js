// What was said, as a list that stays short enough for a page to be quick.

import { element, nickOf, rich } from "./text.js";

// Lines that are kept; of more, those farthest from what is looked at go.
const MOST = 600;
// Milliseconds in which a page is looked after that nobody sees.
const HIDDEN = 250;
// Pixels from the end within which somebody reads what is newest.
const NEAR = 80;

/** Calls `older()` where somebody has come to the beginning of what is there. */
export class Log {
  #list = document.getElementById("log");
  #scroller = document.getElementById("talk");
  #older = document.getElementById("older");
  #newest = document.getElementById("newest");
  #day = "";
  #first = null; // The lowest offset that is shown.
  #complete = false;
  #asking = false;
  #ended = false;
  #fresh = []; // What is not in the list yet.
  #follow = true; // Somebody read what is newest when the page was last looked at.

  constructor(older) {
    this.older = older;
    this.#scroller.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    this.#newest.addEventListener("click", () => {
      this.toEnd();
      document.getElementById("input").focus();
    });
    // What was to be drawn, and is not going to be.
    document.addEventListener("visibilitychange", () => this.#fresh.length && this.#flush());
    // A keyboard that comes up on a phone, a window that is made smaller.
    new ResizeObserver(() => {
      if (this.#follow) this.toEnd();
      this.#fill();
    }).observe(this.#scroller);
  }

  /** Whether somebody reads what is newest. */
  get atEnd() {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroller;
    return scrollHeight - scrollTop - clientHeight < NEAR;
  }

  toEnd() {
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
    this.#follow = true;
    this.#newest.hidden = true;
  }

  /** To the oldest that there is, and on from there. */
  toStart() {
    this.#scroller.scrollTop = 0;
    this.#scrolled();
  }

  /** Begin anew: another room. */
  clear() {
    this.#ended = false;
    this.#list.replaceChildren();
    this.#fresh.length = 0;
    this.#first = null;
    this.#complete = this.#asking = false;
    this.#day = "";
    this.#older.hidden = true;
  }

  /** The server's log has begun anew: what is older than what is shown is no more. */
  anew() {
    this.#ended = true;
  }

  /** Whoever was asked for more of the past is not going to answer. */
  unanswered() {
    this.#asking = false;
  }

  /** A message of the room's log, the newest. */
  message(message, nick) {
    this.#first ??= message.offset;
    const day = dayOf(message.time);
    if (day !== this.#day) {
      this.#day = day;
      this.#append(element("li", "day", day));
    }
    this.#append(lineOf(message, nick));
  }

  /** Messages from before what is shown, the oldest first. */
  past(messages, complete, nick) {
    this.#asking = false;
    this.#complete = complete;
    const { scrollHeight, scrollTop } = this.#scroller;
    const fresh = messages.filter((message) => this.#first === null || message.offset < this.#first);
    if (fresh.length) this.#first = fresh[0].offset;
    // A reader of screens is not told of these, one after the other.
    this.#list.setAttribute("aria-live", "off");
    const nodes = [];
    let day = "";
    for (const message of fresh) {
      if (dayOf(message.time) !== day) nodes.push(element("li", "day", (day = dayOf(message.time))));
      nodes.push(lineOf(message, nick));
    }
    const top = this.#list.firstElementChild;
    if (top?.className === "day" && top.textContent === day) top.remove();
    this.#list.prepend(...nodes);
    this.#day ||= day;
    this.#fill();
    this.#scroller.scrollTop = scrollTop + this.#scroller.scrollHeight - scrollHeight;
    requestAnimationFrame(() => this.#list.setAttribute("aria-live", "polite"));
    this.#older.hidden = !this.#complete;
    this.#older.textContent = this.#complete ? "This is where it begins." : "";
  }

  /** A line of the system's: `kind` is notice, reply or alarm. */
  line(kind, ...children) {
    this.#append(element("li", kind, ...children));
  }

  /** Something said to one person alone. */
  private(event, nick) {
    const mine = event.nick === nick;
    this.#append(element("li", "private", timeOf(event.time), mine ? "to " : "from ",
      nickOf(mine ? event.to : event.nick), ": ", ...rich(event.text, "")));
  }

  #append(node) {
    this.#fresh.push(node);
    // Gathered until the page is drawn, which a hidden one is not.
    if (this.#fresh.length > 1) return;
    if (document.hidden) setTimeout(() => this.#flush(), HIDDEN);
    else requestAnimationFrame(() => this.#flush());
  }

  #flush() {
    const fresh = this.#fresh;
    this.#fresh = [];
    const follow = this.#follow;
    // Who reads what is old does not lose it; who never comes back must not fill the memory.
    const most = follow ? MOST : 4 * MOST;
    this.#list.append(...fresh);
    while (this.#list.childElementCount > most) this.#dropFirst();
    if (follow) this.toEnd();
    else this.#newest.hidden = false;
    this.#fill();
  }

  /** Where everything fits, nobody can scroll to what is older. */
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
  const text = rich(message.text, message.nick === nick ? "" : nick);
  const line = message.kind === "action"
    ? element("li", "action", timeOf(message.time), "** ", nickOf(message.nick), " ", ...text)
    : element("li", "said", timeOf(message.time), nickOf(message.nick), ": ", ...text);
  line.dataset.offset = message.offset;
  return line;
}

function timeOf(seconds) {
  const moment = new Date(seconds * 1000);
  if (Number.isNaN(moment.getTime())) return "";
  const shown = element("time", "", moment.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }));
  shown.dateTime = moment.toISOString();
  shown.title = moment.toLocaleString();
  return shown;
}

function dayOf(seconds) {
  const moment = new Date(seconds * 1000);
  if (Number.isNaN(moment.getTime())) return "";
  return moment.toLocaleDateString([], { weekday: "long", year: "numeric", month: "long", day: "numeric" });
}
