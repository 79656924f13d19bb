// The client's half of the protocol as a state machine: no WebSocket, no timers, no DOM. Inputs
// are method calls, outputs are what they return: events to show, texts to send, the URL to connect
// to, and the delay before that. The Python client has the same in syncchat/client/protocol.py, and
// tests/client/vectors.json specifies both. Times are in milliseconds.

// Unacknowledged messages that may be on their way at a time, and characters in them; the others wait.
const WINDOW = 64, WINDOW_SIZE = 131_072;
// The shortest delay before an attempt to reconnect, and the longest.
const FIRST = 500, LONGEST = 20_000;
// The longest delay that a server can ask for.
const LONGEST_ASKED = 60_000;
// Close codes after which reconnecting is useless: it would fail in the same way.
const FINAL = new Set([1000, 1002, 1003, 1005, 1007, 1008, 1009, 1010]);
// Silence after which the server is asked for an answer: usually, and if it owes one already; and
// further silence after which the connection is given up. A page sees neither pings nor pongs.
const SILENCE = 25_000, OWED = 5000, PATIENCE = 3500;
// Characters a second of the slowest connection, and how often the allowance for it doubles.
const SLOWEST = 8.192, MOST_DOUBLINGS = 6;
// Delays before each attempt to get the nick of before a break back.
const NICK_AGAIN = [1000, 2000, 4000, 8000, 16_000, 32_000];
// Other events are of a later version of the protocol, and ignored.
const KNOWN = new Set([
  "welcome", "message", "history", "ack", "error", "joined", "left", "renamed", "private", "away",
  "back", "names", "rooms", "whois", "done", "moderated", "topic", "motd", "read_only", "bans", "activity",
]);

export class Protocol {
  #random;
  #delay = 2 * FIRST; // The longest that the next delay may be.
  #outbox = []; // {event, nonce, text, sent, tried, since}; tried: sent on an earlier connection
  #requests = []; // Texts of requests that the page itself makes.
  #epoch = "";
  #last = null; // The last offset that was shown; null: none of this log.
  #awaiting = false; // A history is going to come.
  #inDoubt = false; // It is unknown whether a message is stored that was sent again.
  #nickDue = Infinity; // When to ask for the nick again, how often this was done,
  #nickTries = 0;
  #nickAsked = 0; // and how many answers are to come.
  #heardAt = 0;
  #askedAt = null; // When the user asked for something; null: the server has said something since.
  #probedAt = null; // When the server was asked for an answer; null: it has said something since.
  #fruitless = 0; // Connections that were lost since the last acknowledgement.

  /** `path`: where the room is. `nick`: the wanted nick. `token` may be empty, `history` 0. */
  constructor({ path, nick = "", token = "", history = 0 }, random = Math.random) {
    Object.assign(this, { path, nick, token, history });
    this.#random = random;
    this.ready = false; // Whether the client is in a room, and may send.
    this.welcome = null; // The last welcome.
    this.called = nick; // The nick that the client has.
  }

  /** The events without an acknowledgement of the server, the oldest first. */
  get waiting() {
    return this.#outbox.map((item) => item.event);
  }

  /** When the oldest of them was said; null: there is none. */
  get waitingSince() {
    return this.#outbox[0]?.since ?? null;
  }

  get room() {
    return this.welcome?.room ?? null;
  }

  /** The position of the last message that was shown, to reconnect with; null: none was. */
  get position() {
    return this.#last === null ? null : `${this.#epoch}:${this.#last}`;
  }

  // Connections.

  /** The query of the URL to connect to; `path` is its path. */
  get query() {
    const query = new URLSearchParams();
    if (this.nick) query.set("nick", this.nick);
    if (this.position !== null) query.set("after", this.position);
    else if (this.history) query.set("history", this.history);
    return query.toString();
  }

  /** Note that a connection to the URL is open. */
  opened() {
    this.#awaiting = this.#last !== null || this.history > 0;
    this.#inDoubt = false;
  }

  /**
   * Note the end of the connection by a close code, or of an attempt to open one: null. Returns the
   * delay before the next attempt, null if that is useless. The `reason` may ask for a delay.
   */
  closed(code, reason = "") {
    if (this.ready) this.#fruitless += 1;
    this.ready = false;
    this.#askedAt = null;
    this.#requests.length = 0;
    for (const item of this.#outbox) {
      item.tried ||= item.sent;
      item.sent = false;
    }
    if (FINAL.has(code) || (code >= 3000 && code % 1000 >= 500)) return null;
    const asked = /retry after (\d{1,4}(?:\.\d{1,3})?)$/.exec(reason);
    if (asked) return Math.min(LONGEST_ASKED, 1000 * asked[1]);
    const delay = FIRST + this.#random() * (this.#delay - FIRST);
    this.#delay = Math.min(LONGEST, 2 * this.#delay);
    return delay;
  }

  // Time.

  /** Note the time. Returns when to call this again at the latest; null: the page must reconnect. */
  check(now) {
    if (this.#inDoubt) return null;
    if (!this.ready) return Infinity;
    if (now >= this.#nickDue) {
      this.#requests.push({ type: "nick", nick: this.nick });
      this.#nickAsked += 1;
      this.#nickTries += 1;
      this.#nickDue = now + (NICK_AGAIN[this.#nickTries] ?? Infinity);
    }
    if (this.#probedAt === null && now >= this.#silentUntil()) this.probe(now);
    else if (this.#probedAt !== null && now >= this.#probedAt + PATIENCE) return null;
    return Math.min(this.#nickDue, this.#probedAt === null ? this.#silentUntil() : this.#probedAt + PATIENCE);
  }

  /** Note that the user has asked for something that the server answers soon. */
  asked(now) {
    this.#askedAt ??= now;
  }

  /** Ask the server for an answer: the line may be dead, for example after the computer has slept. */
  probe(now) {
    if (!this.ready || this.#probedAt !== null) return;
    this.#probedAt = now;
    this.#requests.push({ type: "names" });
  }

  /** How long the server may be silent. */
  #silentUntil() {
    if (!this.#outbox.length) return this.#askedAt === null ? this.#heardAt + SILENCE : this.#askedAt + OWED;
    const { rate } = this.welcome.limits;
    const size = this.#outbox.reduce((sum, { sent, text }) => sum + (sent ? text.length : 0), 0);
    // A server with a rate limit stops reading from a client that exceeds it. After breaks without an
    // acknowledgement, the connection may just be slow.
    const allowance = ((rate > 0 ? 1000 / rate : 0) + size / SLOWEST) * 2 ** Math.min(this.#fruitless, MOST_DOUBLINGS);
    return Math.max(this.#heardAt, this.#outbox[0].since) + OWED + allowance;
  }

  /** Stop asking for the old nick, since the user has chosen another one. */
  forgetNick() {
    this.#nickDue = Infinity;
    this.#nickAsked = 0;
  }

  // Received messages.

  /**
   * Note a message of the server. Returns the events to show: those of the server, and `gap`. An
   * `ack` or `error` that answers an event of this page has it in `said`.
   */
  received(text, now) {
    this.#heardAt = now;
    this.#probedAt = this.#askedAt = null;
    let event;
    try {
      event = JSON.parse(text);
    } catch {
      return []; // Not JSON: ignored, as events of later versions are.
    }
    if (!KNOWN.has(event?.type)) return [];
    // A server that refuses a client says why, without a welcome.
    if (!this.ready && event.type !== "welcome" && event.type !== "error") return [];
    if (event.type === "error" && event.nonce) {
      const item = this.#outbox.find(({ sent, nonce }) => sent && nonce === event.nonce);
      if (!item) return []; // It was answered after it had been said once more.
      if (event.code === "unavailable" && item.tried) {
        this.#inDoubt = true; // It may be stored since it was said first.
        return [];
      }
    }
    const said = ["message", "ack", "error"].includes(event.type) ? this.#settle(event.nonce) : null;
    if (said) this.#fruitless = 0;
    switch (event.type) {
      case "message": return this.#deliver(event);
      case "history": return this.#resumed(event);
      case "welcome": return this.#welcomed(event, now);
      case "error":
        if (event.command === "nick" && this.#nickAsked > 0) {
          // The answer to an automatic attempt, not to the user.
          this.#nickAsked -= 1;
          return [];
        }
        if (event.command === "join") this.#settleJoin();
        break;
      case "ack":
        // The client's own message, which the server acknowledges instead of sending it back.
        if (event.epoch === this.#epoch && event.offset === this.#last + 1) this.#last = event.offset;
        break;
      case "renamed":
        if (event.old === this.called) {
          this.called = this.nick = event.nick;
          this.forgetNick();
        }
        break;
    }
    return [said ? { ...event, said } : event];
  }

  #welcomed(welcome, now) {
    this.#delay = 2 * FIRST;
    const moved = this.ready;
    // The server refuses a join, and has put the client back: with what was said meanwhile.
    const isBack = moved && welcome.room === this.room;
    if (!isBack) this.#settleJoin();
    // A join of this page asks for no history.
    if (moved) this.#awaiting = isBack;
    // The URL may spell the room's name differently; the path "/" stays as it is for the lobby.
    const from = this.path.lastIndexOf("/") + 1;
    const asked = decodeURIComponent(this.path.slice(from));
    if (moved || (asked && asked !== welcome.room)) {
      this.path = this.path.slice(0, from) + encodeURIComponent(welcome.room);
    }
    this.called = welcome.nick;
    // Take the server's spelling of the nick; a name with a colon is an address, not a nick.
    if (!welcome.nick.includes(":")) this.nick = welcome.nick;
    // The old connection may still have the nick, until the server notices the break.
    this.#nickTries = this.#nickAsked = 0;
    this.#nickDue = this.nick && this.nick !== this.called ? now + NICK_AGAIN[0] : Infinity;
    this.welcome = welcome;
    this.ready = true;
    if (!this.#awaiting) {
      this.#epoch = welcome.epoch;
      this.#last = welcome.offset;
    }
    return [welcome, ...this.#refuseLarger(welcome.limits.message)];
  }

  /** Refuse what was said before the server's limit was known: it would close the connection. */
  #refuseLarger(limit) {
    const encoder = new TextEncoder();
    const fits = (item) => item.sent || encoder.encode(item.text).length <= limit;
    const refused = this.#outbox.filter((item) => !fits(item));
    this.#outbox = this.#outbox.filter(fits);
    return refused.map(({ event, nonce }) => ({
      type: "error", code: "too_big", text: `It exceeds the limit of ${limit} bytes for a message.`, nonce, said: event,
    }));
  }

  /** Note a history, which the client has asked for on entering, or by a request. */
  #resumed(history) {
    for (const { nonce } of history.messages) this.#settle(nonce);
    if (history.command) return [history];
    this.#awaiting = false;
    const shown = [];
    const begin = history.messages.length ? history.messages[0].offset - 1 : this.welcome.offset;
    if (!history.complete) {
      const { epoch } = this.welcome;
      shown.push({ type: "gap", after: this.#last ?? 0, epoch, anew: begin === 0 && this.#epoch !== epoch });
    }
    if (!history.complete || this.#last === null) this.#last = begin;
    // It differs on the first connection, and if the log has begun anew.
    this.#epoch = this.welcome.epoch;
    for (const message of history.messages) shown.push(...this.#deliver(message));
    return shown;
  }

  #deliver(message) {
    if (this.#last === null) {
      // History was asked for, but the server sends none.
      this.#epoch = this.welcome.epoch;
      this.#last = message.offset - 1;
    }
    const last = this.#last;
    if (message.offset <= last) return [];
    this.#last = message.offset;
    if (message.offset === last + 1) return [message];
    return [{ type: "gap", after: last, epoch: this.#epoch }, message];
  }

  // Texts to send.

  /** Queue a `say`, `action` or `join`, until the server has answered it. A join has no nonce. */
  say(event, nonce, now) {
    const whole = nonce ? { ...event, nonce } : event;
    this.#outbox.push({ event: whole, nonce, text: JSON.stringify(whole), sent: false, tried: false, since: now });
  }

  /** The next text to send; null: none may be sent now. */
  next() {
    if (!this.ready) return null;
    if (this.#requests.length) return JSON.stringify(this.#requests.shift());
    let size = 0;
    for (const [at, item] of this.#outbox.entries()) {
      if (item.sent) {
        // A join is sent alone: what is said before it belongs to the old room.
        if (!item.nonce) return null;
        size += item.text.length;
        continue;
      }
      if (at > 0 && (!item.nonce || at >= WINDOW || size + item.text.length > WINDOW_SIZE)) return null;
      item.sent = true;
      return item.text;
    }
    return null;
  }

  /** Note the server's answer to the event with this nonce. Returns the event; null: it is no own one. */
  #settle(nonce) {
    return nonce ? this.#take((item) => item.sent && item.nonce === nonce) : null;
  }

  #settleJoin() {
    this.#take((item) => item.sent && !item.nonce);
  }

  #take(isIt) {
    const at = this.#outbox.findIndex(isIt);
    return at < 0 ? null : this.#outbox.splice(at, 1)[0].event;
  }
}
