// The connection, which reconnects when it breaks. Runs the protocol of protocol.js on a WebSocket
// and on timers: each message is received once, in order; each of the user's messages is sent until
// the server has acknowledged it.

import { Protocol } from "./protocol.js";

const SUBPROTOCOL = "syncchat.v1";
const TOKEN = "syncchat.token.";

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
  #held = false;

  /** `nick`: the wanted nick. `token` may be empty. */
  constructor(path, { nick, token }) {
    super();
    this.#protocol = new Protocol({ path, nick, token });
    this.state = "connecting"; // or connected, waiting, over
    this.retryAt = 0;
    this.reason = "";
    addEventListener("online", () => this.#hurry());
    document.addEventListener("visibilitychange", () => document.hidden || this.#hurry());
  }

  /** The path of the room, the room, and the server's last welcome. */
  get path() {
    return this.#protocol.path;
  }

  get room() {
    return this.#protocol.room;
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

  /** Stop asking for the old nick, since the user has chosen another one. */
  forgetNick() {
    this.#protocol.forgetNick();
  }

  open() {
    clearTimeout(this.#retry);
    this.#held = false;
    this.#socket?.close();
    const url = new URL(location.href);
    url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    url.pathname = this.#protocol.path;
    url.search = this.#protocol.query;
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
  }

  /** Send a message or a join, again after a break until it is acknowledged. */
  post(event) {
    this.#protocol.say(event, event.type === "join" ? null : randomName(), Date.now());
    this.#pump();
    this.#tell("state");
  }

  /** Send a request once. False: there is no connection. */
  ask(event) {
    if (!this.#protocol.ready) return false;
    this.#socket.send(JSON.stringify(event));
    return true;
  }

  /** With the token, since a URL is often logged. The server never chooses that entry. */
  get #subprotocols() {
    const token = this.#protocol.token;
    if (!token) return [SUBPROTOCOL];
    // These signs may not be in a subprotocol, and encodeURIComponent leaves them.
    const entry = encodeURIComponent(token).replace(/[()]/g, (sign) => (sign === "(" ? "%28" : "%29"));
    return [SUBPROTOCOL, TOKEN + entry];
  }

  #receive(data) {
    const before = this.waiting.length;
    const shown = this.#protocol.received(data, Date.now());
    if (this.#protocol.ready && this.state !== "connected") this.#set("connected");
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
      const socket = this.#socket;
      socket.close();
      // Do not wait for "close": close() waits for the server's Close first.
      this.#closed(socket, 1006, "");
      socket.onclose = null;
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

  #closed(socket, code, reason) {
    if (socket !== this.#socket || this.state === "over") return;
    this.reason = reason;
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

  /** The network is back, or the page is visible again. */
  #hurry() {
    if (this.state === "waiting" && !this.#held) this.open();
    else this.#check();
  }

  #set(state) {
    this.state = state;
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
