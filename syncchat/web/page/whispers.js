// The last private messages of this tab. The server keeps none, so the page shows them again after a
// reload, and in the next room.

import { keep, kept } from "./storage.js";

// Private messages to keep, at most.
const MOST = 100;

export class Whispers {
  #base;
  #key = "";
  #events = [];
  #shown = 0; // Those before this one were shown before the user came to the room.

  /** `base`: the path of the server, which ends with a slash. */
  constructor(base) {
    this.#base = base;
  }

  /** The user has entered a room. Returns the messages to show there. `person`: whose token this is; empty: it is a guest. */
  enter(person = "") {
    const key = `syncchat.private ${this.#base}${person}`;
    if (key !== this.#key) {
      this.#key = key;
      this.#events = this.#read();
      this.#shown = 0;
    }
    const events = this.#events.slice(this.#shown);
    this.#shown = this.#events.length;
    return events;
  }

  /** Keep a private message. */
  add({ nick, to, text, time, own }) {
    this.#events.push({ nick, to, text, time, own });
    const over = Math.max(0, this.#events.length - MOST);
    this.#events.splice(0, over);
    this.#shown = Math.max(0, this.#shown - over);
    keep("session", this.#key, JSON.stringify(this.#events));
  }

  #read() {
    try {
      const events = JSON.parse(kept("session", this.#key)) ?? [];
      return events.filter(({ nick, to, text, time }) => [nick, to, text].every((each) => typeof each === "string") && typeof time === "number");
    } catch {
      return []; // Another program, or the user, has changed it.
    }
  }
}
