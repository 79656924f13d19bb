// What the user has typed and not sent, by room. All tabs of the browser share it; the last one to
// write wins.

import { drop, keep, kept, keysOf } from "./storage.js";

// Drafts to keep, and the characters of a text up to which it is kept.
const MOST = 50, LONGEST = 100_000;

export class Drafts {
  #prefix;

  /** `base`: the path of the server, which ends with a slash. */
  constructor(base) {
    this.#prefix = `syncchat.draft ${base}`;
  }

  /** The draft in a room: its text, and the message that it answers, if any. */
  read(room) {
    const { text, quoted } = this.#read(this.#prefix + room);
    const isQuote = typeof quoted?.nick === "string" && typeof quoted?.text === "string";
    return { text: typeof text === "string" ? text : "", quoted: isQuote ? quoted : null };
  }

  /** Keep the draft of a room; an empty one is forgotten. */
  write(room, text, quoted) {
    const key = this.#prefix + room;
    if (!text.trim() && !quoted) {
      drop("local", key);
      return;
    }
    if (text.length > LONGEST) return;
    keep("local", key, JSON.stringify({ text, quoted, at: Date.now() }));
    const keys = keysOf("local", this.#prefix);
    if (keys.length <= MOST) return;
    keys.sort((one, two) => (this.#read(two).at || 0) - (this.#read(one).at || 0));
    for (const old of keys.slice(MOST)) drop("local", old);
  }

  #read(key) {
    try {
      return JSON.parse(kept("local", key)) ?? {};
    } catch {
      return {}; // Another program, or the user, has changed it.
    }
  }
}
