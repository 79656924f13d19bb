// The connection, which is renewed when it breaks: each message once, in order, and
// what is said is sent until the server has acknowledged it.

const SUBPROTOCOL = "syncchat.v1";
// What may be on its way at a time; the rest waits.
const WINDOW = 64;
// Milliseconds to the first attempt to come back, and between two at most.
const FIRST = 500, LONGEST = 30_000;
// Close codes that would be the same again.
const FINAL = new Set([1000, 1002, 1003, 1005, 1007, 1008, 1009, 1010]);
// Milliseconds of silence after which the server is asked whether it is there, and of
// further silence, then it is not. A browser shows a page neither pings nor pongs.
const SILENCE = 25_000, LOOK = 5_000;
// Milliseconds between the attempts to be called as before a break.
const NICK_AGAIN = [1000, 2000, 4000, 8000, 16_000, 32_000];

/**
 * Dispatches `event` (with what the server says), `gap`, `state`, and `refused` where the
 * server did not even open the connection, `anew` where its log is another than before.
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
  #last = null; // The last offset that was handed out; null: nothing of this log.
  #awaiting = false;

  /** `token` and `history` may be empty; `nick` is what to be called. */
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

  /** What waits for the server's acknowledgement, the oldest first. */
  get waiting() {
    return this.#outbox.map((item) => item.event);
  }

  /** Milliseconds for which the oldest of it has waited. */
  get waited() {
    return this.#outbox.length ? Date.now() - this.#outbox[0].since : 0;
  }

  /** Make no attempt until `open()`: somebody is asked what is needed for it. */
  hold() {
    clearTimeout(this.#timer);
    this.#held = true;
  }

  /** The user has chosen another nick, and no longer wants the one from before. */
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

  /** Say something, or go elsewhere: sent until it is acknowledged. */
  post(event) {
    const nonce = event.type === "join" ? null : randomName();
    const whole = nonce ? { ...event, nonce } : event;
    this.#outbox.push({ event: whole, nonce, sent: false, since: Date.now() });
    this.#pump();
    this.#announce();
  }

  /** Ask something, once. False: there is no connection. */
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
      return; // No event of ours: passed over, as one of a later version is.
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
      // Nobody but this has asked.
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
      // Into another room, from which nothing of the past was asked for.
      this.#last = null;
      this.#awaiting = false;
    }
    // A room has one name, and the address may spell it otherwise; the lobby needs none.
    const asked = decodeURIComponent(this.path.split("/").pop());
    if (moved || (asked && asked !== welcome.room)) {
      this.path = new URL(encodeURIComponent(welcome.room), location.href).pathname;
    }
    this.room = welcome.room;
    this.called = welcome.nick;
    // Written in the server's way; who has no nick goes by an address.
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
    // Its ghost may still be there, if the server has not noticed the break.
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
    // It is another one where nothing had been seen of the log before.
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

  /** A connection that was cut without a word is noticed by nothing else. */
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
      // Which would wait for an answer to its goodbye.
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
