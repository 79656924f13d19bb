// The log: which part of it is in the list, where it is scrolled to, and what is asked of the server.

import { bodyOf, elsewhereItem, messageItem, privateItem } from "./message.js";
import { NewestButton } from "./newest_button.js";
import { MembershipLine } from "./membership_line.js";
import { Scroller } from "./scroller.js";
import { follow } from "./settings.js";
import { MOST, MessageList } from "./message_list.js";
import { Announcer } from "./announcer.js";
import { MessageFilter } from "./message_filter.js";
import { element } from "./text.js";

// Messages to ask for each time, and around one that the user wants to see.
const PAGE = 100, AROUND = 30;
// Messages that /history goes back.
const BACK = 50;
// Milliseconds between two changes of the list at least: usually, of a hidden page, and while more
// messages come in one than people read. Each change draws the whole list, which takes long: on a slow
// machine, the pause is so many times as long as that, so that the user can type.
const PAUSE = 50, HIDDEN = 250, FLOODED = 250, REST = 4;
const READ = 10;
// Pixels from either end of the list at which more is loaded.
const EDGE = 400;
// Milliseconds for which a message is highlighted.
const HIGHLIGHT = 2500;

/**
 * `ask(request)` sends a request, and returns whether there is a connection; the answers come to
 * `past()`, in the order of the requests. `own()` returns the nick of the user.
 */
export class Log {
  #newest = new NewestButton(() => this.toEnd());
  #older = document.getElementById("older");
  #filter = new MessageFilter();
  #messages = new MessageList({
    make: (message) => messageItem(message, this.#filter.wanted(message.nick)),
    isIgnored: (nick) => this.#filter.ignores(nick),
  });
  #announcer = new Announcer();
  #scroller;
  #fresh = []; // Messages that are not in the list yet,
  #skipped = 0; // and how many more there were.
  #due = false; // The list is going to be changed,
  #changed = 0; // and when it was the last time.
  #pause = PAUSE; // Until the next time.
  #end = null; // The offset of the newest message.
  #requests = []; // {kind, before, target}, which are not answered yet.
  #follow = true; // The user reads the newest messages.
  #wiped = false; // The user has removed what was shown, and does not want it back at once.
  #passed = null; // The last line that says who has come and gone, and its entry.
  #gap = null; // The entry of a line that stands before the message that comes next.

  constructor({ ask, own }) {
    Object.assign(this, { ask, own });
    this.#scroller = new Scroller({ moved: () => this.#moved(), resized: () => this.#resized() });
    document.getElementById("log").addEventListener("refold", () => {
      this.#follow = this.atEnd;
    });
    // A hidden page runs no animation frames: add the lines that wait for one.
    document.addEventListener("visibilitychange", () => this.#due && this.#change());
    follow("times", (on) => document.getElementById("log").classList.toggle("without-times", !on));
    for (const name of ["ignored", "highlights"]) {
      follow(name, () => {
        this.#filter.read();
        this.#anchored(() => this.#messages.remake());
      });
    }
  }

  /** Whether the user reads the newest messages. */
  get atEnd() {
    return this.#messages.live && this.#scroller.atEnd;
  }

  /** Whether there is no message of the room's log. */
  get empty() {
    return this.#messages.last === null && !this.#fresh.length;
  }

  /** The message that an item of the list shows; null: it shows none. */
  messageAt(node) {
    return this.#messages.at(Number(node.dataset.offset))?.message ?? null;
  }

  /** Go to the newest message. */
  toEnd() {
    if (!this.#messages.live) {
      if (this.#requests.some(({ kind }) => kind === "end") || this.#ask("end", undefined, PAGE)) return;
    }
    this.#follow = this.#messages.live;
    this.#scroller.toEnd();
    this.#showBelow();
  }

  /** Go `number` messages back. */
  toStart(number = BACK) {
    const { entries } = this.#messages, end = (this.#end ?? 0) + 1, first = this.#messages.first ?? end;
    const top = this.#scroller.firstVisible;
    const from = entries.find(({ message, node }) => message && top && !(node.compareDocumentPosition(top) & Node.DOCUMENT_POSITION_FOLLOWING));
    const target = Math.max(1, (from?.offset ?? end) - number);
    this.#follow = false;
    if (target >= first || this.#messages.begins) this.#toTop(target);
    else if (first - target < PAGE) this.#ask("older", first, PAGE, target);
    else this.#askAround(target);
  }

  /** Show the message with this offset in its context. */
  show(offset) {
    this.#change();
    const entry = this.#messages.at(offset);
    if (entry) this.#present(entry.node);
    else if (!this.#askAround(offset)) this.line("alarm", "Not shown: there is no connection.");
  }

  /** Remove everything, for another room. */
  clear() {
    this.#messages.clear();
    this.#fresh = [];
    this.#skipped = 0;
    this.#end = this.#gap = null;
    this.#wiped = false;
    this.#follow = true;
    this.#older.hidden = true;
    this.#showBelow();
  }

  /** Load the last `limit` messages of a log that ends at `end`. */
  enter(end, limit) {
    this.#filter.nick = this.own();
    this.#know(end);
    this.#ask("enter", end + 1, limit);
  }

  /** Remove what is shown. To go back brings the messages again. */
  wipe() {
    this.#change();
    this.#anchored(() => this.#messages.clear());
    this.#wiped = true;
  }

  /** Show a mark with this text behind the message of this offset. Call it before `past()`. */
  mark(offset, text) {
    this.#messages.mark(offset, text);
  }

  /** The server's log has begun anew. */
  anew() {
    this.#change();
    this.#end = 0;
    this.#messages.anew();
    if (this.#follow) this.#scroller.toEnd();
  }

  /** The first request for messages, or all of them, are not going to be answered. */
  unanswered(all = true) {
    if (all) this.#requests = [];
    else this.#requests.shift();
    if (this.#fresh.length) this.#changeSoon();
  }

  /** Add the newest message of the room's log. */
  message(message) {
    this.#filter.nick = this.own();
    this.#know(message.offset - 1);
    this.#end = message.offset;
    if (this.#gap) this.#gap.offset = message.offset - 1;
    this.#gap = null;
    if (message.kind === "redaction") this.#redact(Number(message.text));
    this.#fresh.push(message);
    // Those in front would not stay in the list: make no nodes for them.
    if (this.#fresh.length > 2 * MOST) this.#skipped += this.#fresh.splice(0, MOST).length;
    this.#changeSoon();
  }

  /** Take the answer to a request for messages, the oldest first. `complete`: there are no older ones. */
  past(messages, complete) {
    this.#change();
    this.#filter.nick = this.own();
    const request = this.#requests.shift() ?? { kind: "older", before: this.#messages.first };
    if (messages.length) this.#know(messages.at(-1).offset);
    if (["enter", "older"].includes(request.kind)) this.#takeOlder(messages, complete, request);
    else if (request.kind === "newer") this.#takeNewer(messages, complete, request);
    else this.#takeOthers(messages, complete, request);
    this.#showBelow();
    this.#fill();
  }

  /** Add a line of the page; `kind` is notice, reply or alarm. */
  line(kind, ...children) {
    this.#keep(element("li", kind, ...children));
  }

  /** Add a line that says that messages are missing before the one that comes next; `anew`: the log has begun anew. */
  gap(anew) {
    this.#gap = this.#keep(anew ? element("li", "notice", "The server has restarted; earlier messages are no longer kept.") : missingLine());
  }

  /** Add people who have come (`came` is true) or gone. Such lines in a row become one. */
  passed(nicks, came) {
    const gathers = this.#passed?.entry === this.#messages.lastLine && this.#passed?.entry.offset === (this.#end ?? Infinity);
    if (!gathers || this.#passed.full) {
      this.#passed = new MembershipLine();
      this.#passed.entry = this.#keep(this.#passed.node);
    }
    this.#passed.add(nicks, came);
  }

  /** An ignored person has another nick now. */
  renamed(old, nick) {
    this.#change();
    this.#messages.renamed(old, nick);
  }

  /** Add a message of another room, which mentions the user. */
  elsewhere(room, message) {
    this.#filter.nick = this.own();
    this.#keep(elsewhereItem(room, message, this.#filter.wanted(message.nick)), message.nick, message.text.length);
  }

  /** Add a private message. */
  private(event) {
    this.#keep(privateItem(event, this.own()), event.nick, event.text.length);
  }

  /** Add private messages of before, each at its time. Call it before `enter()`. */
  restore(events) {
    for (const event of events) {
      const entry = this.#messages.keep(privateItem(event, this.own()), null, event.nick, event.text.length);
      Object.assign(entry, { offset: NaN, time: event.time });
    }
  }

  /** The log has at least the messages up to this offset. */
  #know(offset) {
    if (this.#end === null) this.#messages.settle(offset);
    this.#end = Math.max(this.#end ?? 0, offset);
  }

  #keep(node, nick = "", size = node.textContent.length) {
    this.#changeSoon();
    if (!this.#filter.ignores(nick)) this.#announcer.add(node);
    return this.#messages.keep(node, this.#end, nick, size);
  }

  #redact(offset) {
    this.#messages.redact(offset);
    const fresh = this.#fresh.find((message) => message.offset === offset);
    if (fresh) Object.assign(fresh, { kind: "redacted", text: "" });
    for (const node of document.querySelectorAll(`[data-found="${offset}"] .text`)) {
      node.replaceWith(bodyOf({ kind: "redacted", text: "" }, null));
    }
  }

  // Requests.

  #ask(kind, before, limit, target) {
    const sent = this.ask({ type: "history", before, limit });
    if (sent) this.#requests.push({ kind, before, limit, target, last: this.#messages.last });
    return sent;
  }

  #askAround(offset) {
    return this.#ask("around", offset + AROUND / 2, AROUND, offset);
  }

  #takeOlder(messages, complete, { kind, before, limit, target }) {
    const { first } = this.#messages;
    // A message that came before the answer has the offset `before`.
    if (first !== null && first !== before) return;
    const fresh = this.#messages.draw(messages, true);
    this.#anchored(() => {
      this.#messages.begins = fresh.length === messages.length && (complete || fresh[0]?.offset === 1);
      this.#messages.addOlder(fresh);
      this.#messages.fit(!this.#follow);
    });
    // The others that the user has missed, if they did not come at once, and are not too many for the list.
    const rest = kind === "enter" && this.#follow && this.#messages.first < before ? limit - fresh.length : 0;
    if (rest > 0 && !this.#messages.begins) this.#ask("enter", this.#messages.first, rest);
    else if (target < this.#messages.first && !this.#messages.begins) this.#askAround(target);
    else if (target) this.#toTop(target);
  }

  #takeNewer(messages, complete, { last }) {
    if (this.#messages.last !== last) return;
    const { length } = messages, isHole = messages[0]?.offset > last + 1;
    if (isHole && !complete) {
      // They are too large for one answer, which has the newest ones: ask for fewer.
      this.#ask("newer", last + 1 + length, length);
      return;
    }
    if (isHole) this.#messages.keep(missingLine(), last, "", 0);
    const fresh = this.#messages.draw(messages.filter(({ offset }) => offset > last), false);
    if (!fresh.length) {
      // The server no longer keeps what comes next.
      this.#ask("end", undefined, PAGE);
      return;
    }
    this.#anchored(() => {
      this.#messages.live = fresh.at(-1).offset >= this.#end;
      this.#messages.addNewer(fresh);
      this.#messages.fit(false);
    });
  }

  /** Messages of another part of the log. */
  #takeOthers(messages, complete, { kind, target }) {
    const found = messages.find(({ offset }) => offset >= target);
    if (kind === "around" && !found) {
      this.line("alarm", `Message ${target} is not in the history of this room.`);
      return;
    }
    if (found?.offset > target && !complete) {
      // What comes behind it is too large for one answer.
      this.#ask("around", target + 1, AROUND / 2, target);
      return;
    }
    const before = found ? messages.indexOf(found) : messages.length;
    const fresh = [
      ...this.#messages.draw(messages.slice(0, before), true),
      ...this.#messages.draw(messages.slice(before), false),
    ];
    // Those that have come since the server answered wait in #fresh, or are the next to be loaded.
    const end = fresh.at(-1)?.offset ?? 0;
    this.#messages.empty();
    this.#messages.live = end >= this.#end || this.#fresh.some(({ offset }) => offset === end + 1);
    this.#anchored(() => {
      this.#messages.begins = complete && fresh.length === messages.length;
      this.#messages.addNewer(fresh);
      this.#messages.fit(false);
    });
    this.#changeSoon();
    if (kind === "end") {
      this.#follow = true;
      this.toEnd();
    } else {
      this.#present(this.#messages.at(found.offset).node);
    }
  }

  // The list.

  /** Change the list, and keep the place that the user reads. */
  #anchored(change) {
    if (!this.#follow) this.#scroller.hold();
    change();
    this.#older.hidden = !this.#messages.begins;
    if (this.#follow) this.#scroller.toEnd();
    else this.#scroller.restore();
  }

  #changeSoon() {
    if (this.#due) return;
    this.#due = true;
    const rest = this.#changed + this.#pause - performance.now();
    if (document.hidden) setTimeout(() => this.#change(), HIDDEN);
    else if (rest > 0) setTimeout(() => requestAnimationFrame(() => this.#change()), rest);
    else requestAnimationFrame(() => this.#change());
  }

  #change() {
    if (!this.#due) return;
    this.#due = false;
    // What has come after an answer that is to come is added behind it.
    if (this.#requests.some(({ kind }) => kind === "end")) return;
    const begin = performance.now();
    const fresh = this.#fresh.filter(({ offset }) => !(offset <= this.#messages.last));
    const skipped = this.#skipped;
    this.#fresh = [];
    this.#skipped = 0;
    this.#add(fresh, skipped);
    for (const message of fresh) if (this.#filter.isNews(message)) this.#announcer.add(this.#messages.at(message.offset)?.node);
    this.#announcer.speak();
    this.#showBelow();
    this.#fill();
    this.#changed = performance.now();
    this.#pause = Math.max(fresh.length > READ ? FLOODED : PAUSE, REST * (this.#changed - begin));
  }

  #add(fresh, skipped) {
    const shown = this.#messages;
    if (!this.#follow) this.#newest.count(skipped + fresh.filter((message) => this.#filter.isNews(message)).length);
    const drawn = shown.live || this.#follow ? shown.draw(fresh, true) : [];
    const isTooMuch = skipped > 0 || drawn.length < fresh.length;
    if (this.#follow && isTooMuch) shown.empty();
    // What the user reads must not be dropped: the rest is loaded when the user comes to it.
    if (!this.#follow && (isTooMuch || !shown.fits(drawn))) shown.live = false;
    this.#anchored(() => {
      shown.addNewer(shown.live ? drawn : []);
      if (this.#follow) shown.fit(false);
    });
  }

  // The place.

  #toTop(offset) {
    const entry = this.#messages.entries.find((each) => each.message && each.offset >= offset);
    if (entry) this.#scroller.to(entry.node, "start");
    this.#moved();
  }

  /** Scroll to a message, highlight and focus it. */
  #present(node) {
    this.#follow = false;
    node.focus({ preventScroll: true });
    this.#scroller.to(node, "center");
    node.classList.add("sought");
    setTimeout(() => node.classList.remove("sought"), HIGHLIGHT);
    this.#moved();
  }

  #moved() {
    this.#follow = this.atEnd;
    if (!this.#follow) this.#scroller.hold();
    this.#showBelow();
    this.#fill();
  }

  #resized() {
    if (this.#follow) this.#scroller.toEnd();
    else this.#scroller.restore();
    this.#fill();
  }

  /** Load more if the user is near an end of the list, or there is little to scroll. */
  #fill() {
    const { first, last, begins, live } = this.#messages;
    if (this.#requests.length || first === null) return;
    const room = !this.#wiped && this.#scroller.above + this.#scroller.below < EDGE;
    if ((this.#scroller.above < EDGE && (!this.#follow || room)) && !begins && first > 1) this.#ask("older", first, PAGE);
    else if (this.#scroller.below < EDGE && !live) this.#ask("newer", last + 1 + PAGE, PAGE);
  }

  #showBelow() {
    this.#newest.show(this.#follow, !this.#messages.live || this.#scroller.below > 2 * this.#scroller.height);
  }
}

function missingLine() {
  return element("li", "alarm", "Some messages are missing here: the server no longer has them.");
}
