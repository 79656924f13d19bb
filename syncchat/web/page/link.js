// The connection, which reconnects when it breaks. Each message is received once, in order;
// each of the user's messages is sent until the server has acknowledged it.

const SUBPROTOCOL = "syncchat.v1";
// Unacknowledged messages that may be on their way at a time; the others wait.
const WINDOW = 64;
// Milliseconds between two attempts to reconnect, at least and at most.
const FIRST = 500, LONGEST = 30_000;
// Close codes after which reconnecting is useless: it would fail in the same way.
const FINAL = new Set([1000, 1002, 1003, 1005, 1007, 1008, 1009, 1010]);
// SILENCE: milliseconds without data after which the link asks the server for an answer, and
// further milliseconds after which it gives the connection up. LOOK: milliseconds between two
// checks. A page sees neither pings nor pongs.
const SILENCE = 25_000, LOOK = 5_000;
// Milliseconds before each attempt to get the nick of before a break back.
const NICK_AGAIN = [1000, 2000, 4000, 8000, 16_000, 32_000];

/**
 * Dispatches `event` (an event of the server, in `detail`), `gap` (messages are missing), `state`
 * (something to show has changed), `refused` (the server did not open the connection) and `anew`
 * (the room's log has another epoch than before).
 */
export class Link extends EventTarget {
  #socket = null;
  #timer = 0;
  #nickTimer = 0;
  #nickAsked = 0;
  #held = false;
  #heardAt = 0;
  #probedAt = 0;
  #pause = 2 * FIRST;
  #outbox = []; // {event, nonce, sent}
  #ready = false;
  #epoch = "";
  #last = null; // The last offset that was dispatched; null: none of this log.
  #awaiting = false; // A history is going to come.

  /** `nick`: the wanted nick. `token` may be empty, `history` (a number of messages) 0. */
  constructor(path, { nick, token, history }) {
    super();
    Object.assign(this, { path, nick, token, history });
    this.state = "connecting"; // or connected, waiting, over
    this.retryAt = 0;
    this.called = nick;
    this.reason = "";
    addEventListener("online", () => this.#hurry());
    document.addEventListener("visibilitychange", () => document.hidden || this.#hurry());
    setInterval(() => this.#look(), LOOK);
  }

  /** The events without an acknowledgement of the server, the oldest first. */
  get waiting() {
    return this.#outbox.map((item) => item.event);
  }

  /** Milliseconds for which the oldest of them has waited; 0: there is none. */
  get waited() {
    return this.#outbox.length ? Date.now() - this.#outbox[0].since : 0;
  }

  /** Do not reconnect until `open()`, since the user is asked for a token. */
  hold() {
    clearTimeout(this.#timer);
    this.#held = true;
  }

  /** Stop asking for the old nick, since the user has chosen another one. */
  forgetNick() {
    clearTimeout(this.#nickTimer);
    this.#nickAsked = 0;
  }

  open() {
    clearTimeout(this.#timer);
    this.#held = false;
    this.#socket?.close();
    const url = new URL(this.path, location.href);
    url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    url.hash = "";
    url.search = "";
    const resume = this.#last !== null;
    if (this.nick) url.searchParams.set("nick", this.nick);
    if (this.token) url.searchParams.set("token", this.token);
    if (resume) url.searchParams.set("after", `${this.#epoch}:${this.#last}`);
    else if (this.history) url.searchParams.set("history", this.history);
    this.#awaiting = resume || this.history > 0;
    this.#set("connecting");
    const socket = new WebSocket(url, SUBPROTOCOL);
    this.#socket = socket;
    let opened = false;
    socket.onopen = () => { opened = true; };
    socket.onmessage = ({ data }) => {
      if (socket === this.#socket) this.#receive(data);
    };
    socket.onclose = ({ code, reason }) => this.#closed(socket, opened, code, reason);
  }

  /** Send a message or a join, again after a break until it is acknowledged. */
  post(event) {
    const nonce = event.type === "join" ? null : randomName();
    const whole = nonce ? { ...event, nonce } : event;
    this.#outbox.push({ event: whole, nonce, sent: false, since: Date.now() });
    this.#pump();
    this.#announce();
  }

  /** Send a request once. False: there is no connection. */
  ask(event) {
    if (!this.#ready) return false;
    this.#socket.send(JSON.stringify(event));
    return true;
  }

  #pump() {
    for (const [at, item] of this.#outbox.entries()) {
      if (!this.#ready || at >= WINDOW) return;
      // A join is sent alone: what is said before it belongs to the old room.
      if (!item.nonce && at > 0) return;
      if (!item.sent) {
        item.sent = true;
        this.#socket.send(JSON.stringify(item.event));
      }
      if (!item.nonce) return;
    }
  }

  #settle(nonce) {
    const at = this.#outbox.findIndex((item) => item.sent && item.nonce === nonce);
    if (at < 0) return null;
    const [item] = this.#outbox.splice(at, 1);
    return item.event;
  }

  #receive(data) {
    this.#heardAt = Date.now();
    let event;
    try {
      event = JSON.parse(data);
    } catch {
      return; // Not JSON: ignored, as events of later versions are.
    }
    if (typeof event?.type === "string") this.#hear(event);
  }

  #hear(event) {
    let settled = null;
    if (event.nonce && ["message", "ack", "error"].includes(event.type)) settled = this.#settle(event.nonce);
    if (event.type === "welcome") this.#enter(event);
    else if (event.type === "renamed" && event.old === this.called) this.#renamed(event.nick);
    else if (event.type === "error" && event.command === "join") this.#settle(null);
    else if (event.type === "error" && event.command === "nick" && this.#nickAsked > 0) {
      // The answer to an automatic attempt of #wantNick, not to the user.
      this.#nickAsked -= 1;
      return;
    }
    if (event.type === "message") this.#message(event);
    else if (event.type === "history" && !event.command) this.#past(event);
    else {
      if (event.type === "ack" && event.offset === this.#last + 1) this.#last = event.offset;
      this.#tell("event", { ...event, said: settled });
    }
    this.#pump();
    if (settled) this.#announce();
  }

  #enter(welcome) {
    this.#settle(null);
    this.#pause = 2 * FIRST;
    const moved = this.#ready;
    if (moved) {
      // The client went to another room; a join of this page asks for no history.
      this.#last = null;
      this.#awaiting = false;
    }
    // The URL may spell the room's name differently; the path "/" stays as it is for the lobby.
    const asked = decodeURIComponent(this.path.split("/").pop());
    if (moved || (asked && asked !== welcome.room)) {
      this.path = new URL(encodeURIComponent(welcome.room), location.href).pathname;
    }
    this.room = welcome.room;
    this.called = welcome.nick;
    // Take the server's spelling of the nick; a name with a colon is an address, not a nick.
    if (!welcome.nick.includes(":")) this.nick = welcome.nick;
    if (this.#epoch && this.#epoch !== welcome.epoch && !moved) this.#tell("anew");
    this.#ready = true;
    if (!this.#awaiting) {
      this.#epoch = welcome.epoch;
      this.#last = welcome.offset;
    }
    this.welcome = welcome;
    this.#set("connected");
    this.#wantNick(0);
  }

  #wantNick(attempt) {
    clearTimeout(this.#nickTimer);
    if (attempt === 0) this.#nickAsked = 0;
    // The old connection may still have the nick, until the server notices the break.
    if (!this.nick || this.called === this.nick || attempt >= NICK_AGAIN.length) return;
    this.#nickTimer = setTimeout(() => {
      if (this.called === this.nick || !this.ask({ type: "nick", nick: this.nick })) return;
      this.#nickAsked += 1;
      this.#wantNick(attempt + 1);
    }, NICK_AGAIN[attempt]);
  }

  #renamed(nick) {
    this.called = this.nick = nick;
    this.forgetNick();
  }

  #past(history) {
    this.#awaiting = false;
    const begin = history.messages.length ? history.messages[0].offset - 1 : this.welcome.offset;
    if (!history.complete) this.#tell("gap");
    if (!history.complete || this.#last === null) this.#last = begin;
    // It differs on the first connection, and if the log has begun anew.
    this.#epoch = this.welcome.epoch;
    for (const message of history.messages) {
      if (message.nonce) this.#settle(message.nonce);
      this.#message(message);
    }
    this.#announce();
  }

  #message(message) {
    if (this.#last === null) {
      this.#epoch = this.welcome.epoch;
      this.#last = message.offset - 1;
    }
    if (message.offset <= this.#last) return;
    if (message.offset > this.#last + 1) this.#tell("gap");
    this.#last = message.offset;
    this.#tell("event", message);
  }

  #closed(socket, opened, code, reason) {
    if (socket !== this.#socket || this.state === "over") return;
    const wasIn = this.#ready;
    this.#ready = false;
    for (const item of this.#outbox) item.sent = false;
    this.reason = reason;
    if (opened && (FINAL.has(code) || (code >= 3000 && code % 1000 >= 500))) {
      this.#set("over");
      return;
    }
    const pause = FIRST + Math.random() * (this.#pause - FIRST);
    this.#pause = Math.min(LONGEST, 2 * this.#pause);
    this.retryAt = Date.now() + pause;
    if (!this.#held) this.#timer = setTimeout(() => this.open(), pause);
    this.#set("waiting");
    if (!opened && !wasIn) this.#tell("refused");
  }

  #hurry() {
    if (this.state === "waiting" && !this.#held) this.open();
    else this.#look();
  }

  /** Give up a silent connection: nothing else detects one that was cut without a Close. */
  #look() {
    if (!this.#ready) return;
    const silence = Date.now() - this.#heardAt;
    if (silence < SILENCE) this.#probedAt = 0;
    else if (!this.#probedAt) {
      this.#probedAt = Date.now();
      this.ask({ type: "names" });
    } else if (Date.now() - this.#probedAt > SILENCE) {
      this.#probedAt = 0;
      const socket = this.#socket;
      socket.close();
      // Do not wait for "close": close() waits for the server's Close first.
      this.#closed(socket, true, 1006, "");
      socket.onclose = null;
    }
  }

  #set(state) {
    this.state = state;
    this.#announce();
  }

  #announce() {
    this.#tell("state");
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

function randomName() {
  const bytes = crypto.getRandomValues(new Uint8Array(9));
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_");
}
