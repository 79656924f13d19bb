// What the user has typed in each room and not sent, and what the user has said there.

import { drop, keep, kept } from "./storage.js";

// Characters of a draft to keep, lines of a room to recall, and milliseconds between two writes.
const LONGEST = 20_000, RECALLED = 100, PAUSE = 300;

export class Drafts {
  #said = new Map(); // room -> lines, the oldest first; while the page is open
  #timer = 0;
  #unwritten = null; // {key, text}

  /** `base`: the path of the server, which ends with a slash. */
  constructor(base) {
    this.base = base;
    addEventListener("pagehide", () => this.#write());
  }

  /** The draft of a room; empty: there is none. */
  of(room) {
    this.#write();
    return kept("local", this.#key(room)) ?? "";
  }

  /** Keep the draft of a room. */
  set(room, text) {
    this.#unwritten = { key: this.#key(room), text: text.slice(0, LONGEST) };
    this.#timer ||= setTimeout(() => this.#write(), PAUSE);
  }

  /** Note that a line was entered in a room. */
  entered(room, line) {
    const said = this.said(room).filter((each) => each !== line);
    this.#said.set(room, [...said, line].slice(-RECALLED));
  }

  /** The lines that were entered in a room, the oldest first. */
  said(room) {
    return this.#said.get(room) ?? [];
  }

  #key(room) {
    return `syncchat.draft ${this.base}${room}`;
  }

  #write() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    if (!this.#unwritten) return;
    const { key, text } = this.#unwritten;
    if (text.trim()) keep("local", key, text);
    else drop("local", key);
    this.#unwritten = null;
  }
}
