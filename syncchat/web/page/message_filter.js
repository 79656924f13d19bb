// What the user wants marked in messages, and whom the user ignores.

import { setting } from "./settings.js";
import { wholeWords } from "./text.js";

export class MessageFilter {
  #nick = "";
  #words = null; // A regular expression for what is marked; null: nothing is.
  #ignored = new Set();

  /** Read the settings anew. */
  read() {
    this.#ignored = new Set(setting("ignored").map((nick) => nick.toLowerCase()));
    this.#words = wholeWords([this.#nick, ...setting("highlights")]);
  }

  /** The user's nick. */
  set nick(nick) {
    if (nick === this.#nick) return;
    this.#nick = nick;
    this.read();
  }

  /** What to mark in a message of this nick: a regular expression; null: nothing. */
  wanted(nick) {
    return nick === this.#nick ? null : this.#words;
  }

  ignores(nick) {
    return this.#ignored.has(nick.toLowerCase());
  }

  /** Whether a message tells the user something: it is of somebody else, who is not ignored. */
  isNews({ nick }) {
    return nick !== this.#nick && !this.ignores(nick);
  }
}
