// The log: a window over the messages of a room. It holds messages without a gap between them, and
// only so many that the page stays fast; the server has the others.

import { adapt, itemOf, lineOf, redact } from "./message.js";
import { follow, setting } from "./settings.js";
import { element } from "./text.js";

// Items to hold while the user reads the newest ones, and otherwise; characters in them.
const MOST = 300, MOST_SCROLLED = 600, CHARACTERS = 3_000_000;
// Messages to ask for each time, and those before and behind a message that is shown in its context.
const PAGE = 100, AROUND = 50;
// Lines of the page itself to keep for the places where they were shown.
const LINES = 500;
// Pixels from an end within which the user counts as reading the newest messages, or gets further ones.
const NEAR = 80, SOON = 600;
// Milliseconds between two updates of a hidden page.
const HIDDEN = 250;

export class Log {
  #list = document.getElementById("messages");
  #region = document.getElementById("log");
  #scroller = document.getElementById("talk");
  #older = document.getElementById("older");
  #newest = document.getElementById("newest");
  #items = []; // What is shown, in order. The node of each is in the list.
  #fresh = []; // Items that are not in the list yet; those of messages without nodes.
  // {after, item}: the lines of the page, each with the offset that it stands behind; null: this is not
  // known, and its time tells.
  #lines = [];
  #end = 0; // The last offset of the room's log.
  #first = 1; // The first offset that the server may have.
  #requests = []; // What to do with the answers of the server, in the order of the requests.
  #follow = true; // The user reads the newest messages.
  #below = 0; // The messages that have come since the user read the newest ones.
  #ended = false; // The server's log has begun anew.
  #mark = null; // {after, text}: the mark behind what the user has read.

  /**
   * `ask(request)` sends a request, and returns whether there is a connection. `own()` returns the
   * nick of the user.
   */
  constructor({ ask, own }) {
    Object.assign(this, { ask, own });
    this.#scroller.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    this.#newest.addEventListener("click", () => {
      this.toEnd();
      document.getElementById("input").focus();
    });
    // A hidden page runs no animation frames: add the items that wait for one.
    document.addEventListener("visibilitychange", () => this.#fresh.length && this.#flush());
    // The size changes when a phone shows its keyboard, or the user resizes the window.
    new ResizeObserver(() => {
      if (this.#follow) this.#scrollToEnd();
      this.#fill();
    }).observe(this.#scroller);
    follow("times", (shown) => this.#region.classList.toggle("without-times", !shown));
    follow("ignored", () => this.#adaptAll());
  }

  // What the user sees.

  /** Whether the user reads the newest messages. */
  get atEnd() {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroller;
    return this.#isLive && scrollHeight - scrollTop - clientHeight < NEAR;
  }

  /** Whether there is no message of the room's log. */
  get empty() {
    return this.#firstOffset === null;
  }

  /** Remove what is shown; scrolling back brings the messages again. */
  wipe() {
    this.#drop(0, this.#items.length - 1);
    this.#lines = [];
  }

  /** Go to the newest messages. */
  toEnd() {
    this.#follow = true;
    this.#below = 0;
    if (!this.#isLive) this.#request("only", this.#end + 1, PAGE);
    this.#scrollToEnd();
    this.#showBelow();
  }

  /** Go back by `number` messages, or by a page. */
  toStart(number = PAGE) {
    const offset = Math.max(this.#first, (this.#firstOffset ?? 1) - number);
    this.#follow = false;
    if (this.#firstOffset === null || this.#firstOffset <= this.#first) this.#scroller.scrollTop = 0;
    else this.#request("older", this.#firstOffset, Math.min(number, MOST_SCROLLED / 2), () => this.#reveal(offset));
  }

  /** Show the message with this offset, with those around it. */
  show(offset) {
    if (this.#items.some((item) => item.offset === offset)) {
      this.#reveal(offset);
      return;
    }
    this.#follow = false;
    this.#request("only", Math.min(offset + AROUND, this.#end + 1), 2 * AROUND, () => this.#reveal(offset));
  }

  /** The items with messages, for a menu: that of a node within the list; null: it has none. */
  messageAt(node) {
    const shown = node.closest?.("#messages > li");
    return this.#items.find((item) => item.node === shown && item.message)?.message ?? null;
  }

  // A room.

  /** Remove everything, for another room. */
  clear() {
    this.#items = [];
    this.#fresh = [];
    this.#lines = [];
    this.#list.replaceChildren();
    this.#requests = [];
    this.#end = 0;
    this.#first = 1;
    this.#ended = false;
    this.#mark = null;
    this.#follow = true;
    this.#below = 0;
    this.#older.hidden = true;
    this.#showBelow();
  }

  /** Load the last `limit` messages of a log that ends at `end`. */
  enter(end, limit) {
    this.#end = end;
    this.#request("only", end + 1, limit);
  }

  /** Show a mark with this text behind the message of this offset. */
  mark(offset, text) {
    this.#mark = { after: offset, text };
  }

  /** The server's log has begun anew: ask for no older messages. */
  anew() {
    this.#ended = true;
    this.#requests = [];
    for (const item of this.#items) item.offset = null;
    this.#lines = [];
    this.#end = 0;
  }

  /** The requests for messages are not going to be answered. */
  unanswered() {
    this.#requests = [];
  }

  // What is said.

  /** Add the newest message of the room's log. */
  message(message) {
    const last = this.#lastOffset;
    const adjoins = message.offset === (last ?? this.#end) + 1;
    if (message.offset > this.#end) this.#end = message.offset;
    if (message.kind === "redaction") this.#redact(Number(message.text));
    // Those that the window does not reach are loaded when the user scrolls to them.
    if (last !== null && message.offset <= last) return;
    if (!this.#follow) this.#below += 1;
    if (!adjoins && !this.empty) {
      // Something is missing between the window and this message.
      if (this.#follow && !this.#requests.length) this.#request("only", this.#end + 1, PAGE);
      this.#showBelow();
      return;
    }
    if (this.#requests.some(({ how }) => how === "only")) return;
    if (!this.#follow && this.#items.length + this.#fresh.length >= MOST_SCROLLED) this.#showBelow();
    else this.#append({ message, offset: message.offset });
  }

  /** Add a line of the page; `kind` is notice, reply or alarm. */
  line(kind, ...children) {
    this.#keep(lineOf(kind, ...children));
  }

  /** Add a private message. */
  private(event) {
    const mine = event.nick === this.own();
    this.#keep(itemOf({ ...event, kind: "private", heading: `to ${mine ? event.to : "you"}, privately` }, this.own()));
  }

  /** Add private messages from before the page was loaded, each at its time. Call it before `enter()`. */
  restore(events) {
    for (const event of events) {
      this.private(event);
      this.#lines.at(-1).after = null;
    }
    this.#fresh = [];
  }

  /** Add a message of another room, which mentions the user. */
  elsewhere(room, message) {
    this.#keep(itemOf({ ...message, offset: null, kind: "elsewhere", heading: `in ${room}` }, this.own()));
  }

  /** Take the server's answer to the oldest request. `complete`: there are no older messages. */
  past(messages, complete) {
    const request = this.#requests.shift();
    if (!request) return;
    if (complete && messages.length) this.#first = messages[0].offset;
    if (complete && !messages.length) this.#first = request.before;
    this.#end = Math.max(this.#end, messages.at(-1)?.offset ?? 0);
    // A screen reader must not read all of these aloud.
    this.#region.setAttribute("aria-live", "off");
    if (request.how === "only") this.#replace(messages);
    else if (request.how === "older") this.#prepend(messages);
    else this.#extend(messages);
    requestAnimationFrame(() => this.#region.setAttribute("aria-live", "polite"));
    this.#older.hidden = this.#ended || (this.#firstOffset ?? this.#first) > this.#first;
    request.then?.();
    this.#showBelow();
    this.#fill();
  }

  // The window.

  get #firstOffset() {
    return this.#items.find(({ offset }) => offset !== null)?.offset ?? this.#fresh.find(({ offset }) => offset !== null)?.offset ?? null;
  }

  get #lastOffset() {
    return this.#fresh.findLast(({ offset }) => offset !== null)?.offset ?? this.#items.findLast(({ offset }) => offset !== null)?.offset ?? null;
  }

  /** Whether the window reaches to the end of the room's log. */
  get #isLive() {
    return this.empty || this.#lastOffset >= this.#end;
  }

  #request(how, before, limit, then) {
    if (this.#ended) return;
    if (this.ask({ type: "history", before, limit })) this.#requests.push({ how, before, then });
  }

  /** Add a line at the end, and keep it for its place. */
  #keep(item) {
    this.#lines.push({ after: this.#end, item });
    if (this.#lines.length > LINES) this.#lines.shift();
    if (this.#isLive) this.#append(item);
  }

  #append(item) {
    this.#fresh.push(item);
    // Collect items until the next animation frame; a hidden page has none.
    if (this.#fresh.length > 1) return;
    if (document.hidden) setTimeout(() => this.#flush(), HIDDEN);
    else requestAnimationFrame(() => this.#flush());
  }

  #flush() {
    // Items that would be dropped at once need no nodes.
    const fresh = this.#fresh.slice(-MOST).map((item) => (item.node ? item : itemOf(item.message, this.own())));
    if (fresh.length < this.#fresh.length) this.#drop(0, this.#items.length);
    this.#fresh = [];
    this.#insert(this.#items.length, fresh);
    if (this.#follow) this.#trim(MOST, 0);
    if (this.#follow) this.#scrollToEnd();
    this.#showBelow();
    this.#fill();
  }

  #replace(messages) {
    this.#drop(0, this.#items.length);
    this.#fresh = [];
    this.#insert(0, this.#between(messages, (messages[0]?.offset ?? 1) - 1, messages.at(-1)?.offset ?? 0));
    if (this.#follow) this.#scrollToEnd();
  }

  #prepend(messages) {
    const behind = this.#firstOffset;
    const older = messages.filter(({ offset }) => offset < behind);
    this.#keepPlace(() => {
      this.#insert(0, this.#between(older, (older[0]?.offset ?? 1) - 1, behind - 1));
      this.#trim(MOST_SCROLLED, this.#items.length);
    });
  }

  /** Add the messages behind the window. */
  #extend(messages) {
    const last = this.#lastOffset;
    const newer = messages.filter(({ offset }) => offset > last);
    this.#keepPlace(() => {
      this.#insert(this.#items.length, this.#between(newer, last, newer.at(-1)?.offset ?? last));
      this.#trim(MOST_SCROLLED, 0);
    });
    this.#scrolled();
  }

  /** The items for messages, and the kept lines behind the offset `from` and up to `to`. */
  #between(messages, from, to) {
    const items = messages.map((message) => itemOf(message, this.own()));
    const isLast = to >= this.#end;
    const shown = new Set(this.#items);
    for (const line of this.#lines) {
      line.after ??= this.#placeOf(line.item, messages, from, isLast);
      if (line.after === null || line.after < from || (line.after > to && !isLast) || shown.has(line.item)) continue;
      const at = items.findIndex(({ offset }) => offset !== null && offset > line.after);
      items.splice(at < 0 ? items.length : at, 0, line.item);
    }
    return items;
  }

  /** The offset behind which an item belongs by its time; null: not among these messages. */
  #placeOf({ time }, messages, from, isLast) {
    const behind = messages.findIndex((message) => message.time > time);
    if (behind > 0) return messages[behind - 1].offset;
    if (behind === 0) return from < this.#first ? from : null;
    return isLast ? this.#end : null;
  }

  #insert(at, items) {
    const behind = this.#items[at]?.node ?? null;
    this.#items.splice(at, 0, ...items);
    this.#adapt(at, at + items.length + 1);
    const nodes = document.createDocumentFragment();
    nodes.append(...items.map(({ node }) => node));
    this.#list.insertBefore(nodes, behind);
  }

  /** Drop items from the begin or, if `from` is the number of items, from the end. */
  #trim(most, from) {
    let characters = 0;
    for (const { message } of this.#items) characters += message?.text.length ?? 0;
    let drop = 0;
    while (this.#items.length - drop > most || (characters > CHARACTERS && this.#items.length - drop > 1)) {
      const item = from ? this.#items.at(-1 - drop) : this.#items[drop];
      characters -= item.message?.text.length ?? 0;
      drop += 1;
    }
    if (!drop) return;
    // The end is not that of the log any more.
    if (from) this.#follow = false;
    this.#drop(from ? this.#items.length - drop : 0, drop);
  }

  #drop(at, number) {
    for (const { node } of this.#items.splice(at, number)) node.remove();
    if (at === 0) this.#adapt(0, 1);
  }

  #adaptAll() {
    this.#adapt(0, this.#items.length);
  }

  /** Adapt the items from `begin` to `end` to those before them. */
  #adapt(begin, end) {
    const ignored = new Set(setting("ignored").map((nick) => nick.toLowerCase()));
    let before = this.#items[begin - 1];
    let last = this.#items.slice(0, begin).findLast(({ offset }) => offset !== null)?.offset;
    for (const item of this.#items.slice(begin, end)) {
      const { node, nick, offset } = item;
      node.hidden = nick !== null && ignored.has(nick.toLowerCase());
      const isMarked = this.#mark && offset !== null && offset > this.#mark.after && (last ?? offset - 1) <= this.#mark.after;
      adapt(item, before, isMarked ? this.#mark.text : "");
      last = offset ?? last;
      if (!node.hidden) before = item;
    }
  }

  #redact(offset) {
    for (const item of this.#items) if (item.offset === offset) redact(item, this.own());
    for (const item of this.#fresh) {
      if (item.offset === offset) item.message = { ...item.message, kind: "redacted", text: "" };
    }
    this.#adaptAll();
  }

  // Scrolling.

  #scrollToEnd() {
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
  }

  /** Change the list, and keep what the user reads where it is on the screen. */
  #keepPlace(change) {
    const { top } = this.#scroller.getBoundingClientRect();
    const anchor = this.#items.find(({ node }) => node.getBoundingClientRect().bottom > top)?.node;
    const before = anchor?.getBoundingClientRect().top;
    change();
    if (anchor?.isConnected) this.#scroller.scrollTop += anchor.getBoundingClientRect().top - before;
  }

  /** Bring the message with this offset into view, and the focus to it. */
  #reveal(offset) {
    const item = this.#items.find((each) => each.offset !== null && each.offset >= offset);
    if (!item) return;
    item.node.scrollIntoView({ block: "center" });
    item.node.tabIndex = -1;
    item.node.focus({ preventScroll: true });
    item.node.classList.add("sought");
    setTimeout(() => item.node.classList.remove("sought"), 3000);
    this.#scrolled();
  }

  #showBelow() {
    this.#newest.hidden = this.#follow && this.#isLive;
    const number = this.#below;
    const text = number ? `${number.toLocaleString()} new ${number === 1 ? "message" : "messages"} below` : "Go to the newest messages";
    if (this.#newest.textContent !== text) this.#newest.textContent = text;
  }

  /** Load older messages if everything fits on the screen: then the user cannot scroll to them. */
  #fill() {
    if (this.#scroller.scrollHeight <= this.#scroller.clientHeight) this.#scrolled();
  }

  #scrolled() {
    this.#follow = this.atEnd;
    if (this.#follow) this.#below = 0;
    this.#showBelow();
    if (this.#requests.length || this.empty || this.#ended) return;
    const { scrollHeight, scrollTop, clientHeight } = this.#scroller;
    const first = this.#firstOffset, last = this.#lastOffset;
    if (scrollTop < SOON && first > this.#first) this.#request("older", first, PAGE);
    else if (!this.#isLive && scrollHeight - scrollTop - clientHeight < SOON) this.#request("newer", last + 1 + PAGE, PAGE);
  }
}
