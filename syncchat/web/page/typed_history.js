// What the user has sent from this tab, by room, for the arrow keys.

import { keep, kept } from "./storage.js";

// Lines of a room to keep, and the characters of a line up to which it is kept.
const MOST = 50, LONGEST = 4000;

export class TypedHistory {
  #prefix;
  #key = "";
  #lines = [];
  #at = 0; // The line that is shown; the number of lines: the unsent text.
  #unsent = "";

  /** `base`: the path of the server, which ends with a slash. */
  constructor(base) {
    this.#prefix = `syncchat.typed ${base}`;
  }

  /** Whether a sent line is shown. */
  get browsing() {
    return this.#at < this.#lines.length;
  }

  /** The user has come to another room. */
  moveTo(room) {
    this.#key = this.#prefix + room;
    try {
      const lines = JSON.parse(kept("session", this.#key));
      this.#lines = Array.isArray(lines) ? lines.filter((line) => typeof line === "string").slice(-MOST) : [];
    } catch {
      this.#lines = []; // Another program, or the user, has changed it.
    }
    this.#at = this.#lines.length;
  }

  /** The user has sent a line. */
  add(line) {
    if (line.length <= LONGEST && line !== this.#lines.at(-1)) this.#lines = [...this.#lines, line].slice(-MOST);
    this.#at = this.#lines.length;
    this.#unsent = "";
    keep("session", this.#key, JSON.stringify(this.#lines));
  }

  /** The line `by` lines from `shown`, which is in the input; null: there is none. */
  step(by, shown) {
    const to = this.#at + by;
    if (to < 0 || to > this.#lines.length) return null;
    if (!this.browsing) this.#unsent = shown;
    this.#at = to;
    return this.browsing ? this.#lines[to] : this.#unsent;
  }

  /** The user has changed the line that is shown: it is the unsent text now. A text that was so before stays within reach. */
  edited() {
    if (!this.browsing) return;
    if (this.#unsent.trim()) this.add(this.#unsent);
    this.#at = this.#lines.length;
  }
}
