// The connection, which reconnects when it breaks. Runs the protocol of protocol.js on a WebSocket
// and on timers: each message is received once, in order; each of the user's messages is sent until
// the server has acknowledged it.

import { Protocol } from "./protocol.js";
import { randomName } from "./token.js";

const SUBPROTOCOL = "syncchat.v1";
// What comes before a secret that is shown to the server, which never chooses these entries.
const TOKEN = "syncchat.token.", BROWSER = "syncchat.browser.";
// Milliseconds that an attempt may take until the server's welcome.
const PATIENCE = 15_000;
// Milliseconds between two looks at the clock, and the delay of a look that means that the computer has slept.
const LOOK = 1000, SLEPT = 4000;

/**
 * Dispatches `event` (an event of the server, in `detail`), `gap` (messages are missing), `state`
 * (something to show has changed) and `refused` (the server did not open the connection).
 */
export class Link extends EventTarget {
  #protocol;
  #socket = null;
  #retry = 0; // The timer of the next attempt.
  #alarm = 0; // The timer of the next check, and when it is due.
  #alarmAt = Infinity;
  #limit = 0; // The timer that ends an attempt.
  #held = false;
  #browser;

  /** `nick`: the wanted nick. `token` may be empty. `browser`: the secret that all tabs have. */
  constructor(path, { nick, token, browser }) {
    super();
    this.#protocol = new Protocol({ path, nick, token });
    this.#browser = browser;
    this.state = "connecting"; // or connected, waiting, over, refused
    this.retryAt = 0;
    this.reason = ""; // Why the server closed or refused the connection, if it said so.
    const hurry = () => document.hidden || this.#hurry();
    addEventListener("online", () => this.#hurry());
    addEventListener("offline", () => this.#tell("state"));
    addEventListener("pageshow", ({ persisted }) => persisted && this.#hurry());
    document.addEventListener("visibilitychange", hurry);
    let looked = Date.now();
    setInterval(() => {
      const now = Date.now();
      if (now - looked > LOOK + SLEPT) hurry();
      looked = now;
    }, LOOK);
  }

  /** The path of the room, the room, and the server's last welcome. */
  get path() {
    return this.#protocol.path;
  }

  get room() {
    return this.#protocol.room;
  }

  /** The room that the user is about to be in, or is in. */
  get heading() {
    return this.waiting.findLast(({ type }) => type === "join")?.room ?? this.room;
  }

  get welcome() {
    return this.#protocol.welcome;
  }

  /** The nick that the user has at the moment. */
  get called() {
    return this.#protocol.called;
  }

  /** The nick that the user wants. */
  get nick() {
    return this.#protocol.nick;
  }

  set nick(nick) {
    this.#protocol.nick = nick;
  }

  set token(token) {
    this.#protocol.token = token;
  }

  /** The events without an acknowledgement of the server, the oldest first. */
  get waiting() {
    return this.#protocol.waiting;
  }

  /** Milliseconds for which the oldest of them has waited; 0: there is none. */
  get waited() {
    return Date.now() - (this.#protocol.waitingSince ?? Date.now());
  }

  /** Do not reconnect until `open()`, since the user is asked for a token. */
  hold() {
    clearTimeout(this.#retry);
    this.#held = true;
  }

  /** Stop trying, since the server lets this page in only if somebody does something. */
  refuse(reason) {
    this.hold();
    this.reason = reason;
    this.#set("refused");
  }

  /** Stop asking for the old nick, since the user has chosen another one. */
  forgetNick() {
    this.#protocol.forgetNick();
  }

  open() {
    clearTimeout(this.#retry);
    clearTimeout(this.#limit);
    this.#held = false;
    this.#socket?.close();
    const url = new URL(location.href);
    url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    url.pathname = this.#protocol.path;
    // Rather ask the user for another nick than enter under an address.
    url.search = `${this.#protocol.query}&strict=1`;
    url.hash = "";
    this.#set("connecting");
    const socket = new WebSocket(url, this.#subprotocols);
    this.#socket = socket;
    let opened = false;
    socket.onopen = () => {
      opened = true;
      if (socket === this.#socket) this.#protocol.opened();
    };
    socket.onmessage = ({ data }) => {
      if (socket === this.#socket) this.#receive(data);
    };
    socket.onclose = ({ code, reason }) => this.#closed(socket, opened ? code : null, reason);
    this.#limit = setTimeout(() => this.#drop(socket, opened ? 1006 : null), PATIENCE);
  }

  /** Send a message or a join, again after a break until it is acknowledged. */
  post(event) {
    this.#protocol.say(event, event.type === "join" ? null : randomName(), Date.now());
    this.#check();
    this.#tell("state");
  }

  /** Send a request once; `soon`: its answer is short, and comes soon. False: there is no connection. */
  ask(event, soon = false) {
    if (!this.#protocol.ready) return false;
    this.#socket.send(JSON.stringify(event));
    if (soon) {
      this.#protocol.asked(Date.now());
      this.#check();
    }
    return true;
  }

  /** With the secrets, since a URL is often logged. */
  get #subprotocols() {
    const token = this.#protocol.token;
    const entries = [SUBPROTOCOL, BROWSER + this.#browser];
    if (!token) return entries;
    // These signs may not be in a subprotocol, and encodeURIComponent leaves them.
    return [...entries, TOKEN + encodeURIComponent(token).replace(/[()]/g, (sign) => (sign === "(" ? "%28" : "%29"))];
  }

  #receive(data) {
    const before = this.waiting.length;
    const shown = this.#protocol.received(data, Date.now());
    if (this.#protocol.ready && this.state !== "connected") {
      clearTimeout(this.#limit);
      this.reason = "";
      this.#set("connected");
    }
    for (const event of shown) this.#tell(event.type === "gap" ? "gap" : "event", event);
    this.#check();
    if (this.waiting.length !== before) this.#tell("state");
  }

  /** Send what may be sent now. */
  #pump() {
    for (let text = this.#protocol.next(); text !== null; text = this.#protocol.next()) this.#socket.send(text);
  }

  /** Do what is due, and set the timer for what is due next. */
  #check() {
    const at = this.#protocol.check(Date.now());
    if (at === null) {
      this.#drop(this.#socket, 1006);
      return;
    }
    this.#pump();
    // A timer that fires too early does no harm; so most messages need no new one.
    if (at >= this.#alarmAt) return;
    clearTimeout(this.#alarm);
    this.#alarmAt = at;
    this.#alarm = setTimeout(() => {
      this.#alarmAt = Infinity;
      this.#check();
    }, at - Date.now());
  }

  /** Give a connection up that is dead. */
  #drop(socket, code) {
    socket.onclose = null;
    socket.close();
    // Do not wait for "close": close() waits for the server's Close first.
    this.#closed(socket, code, "");
  }

  #closed(socket, code, reason) {
    if (socket !== this.#socket || !["connecting", "connected"].includes(this.state)) return;
    clearTimeout(this.#limit);
    if (code !== null) this.reason = reason;
    const delay = this.#protocol.closed(code, reason);
    if (delay === null) {
      this.#set("over");
      return;
    }
    this.retryAt = Date.now() + delay;
    if (!this.#held) this.#retry = setTimeout(() => this.open(), delay);
    this.#set("waiting");
    if (code === null) this.#tell("refused");
  }

  /** The network is back, the page is visible again, or the computer has slept. */
  #hurry() {
    if (this.state === "waiting" && !this.#held) this.open();
    if (this.state !== "connected") return;
    this.#protocol.probe(Date.now());
    this.#check();
  }

  #set(state) {
    this.state = state;
    this.#tell("state");
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
