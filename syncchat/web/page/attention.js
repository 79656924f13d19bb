// What tells a user who looks elsewhere that something was said: the title, the icons, and the notifier.

import { ring } from "./notifier.js";
import { setting } from "./settings.js";
import { wholeWords } from "./text.js";

export class Attention {
  #unread = 0; // Messages that the user may not have seen,
  #mentions = 0; // and those of them that are for the user.
  #badge = 0; // The number of mentions that the icons show.
  #icon = document.getElementById("icon");

  /**
   * `room()` returns the name of the current room, null before the first. `looked()` is called when
   * the user looks at the page again, `notify(message)` with each message for the user.
   */
  constructor({ room, looked, notify }) {
    Object.assign(this, { room, looked, notify });
    addEventListener("focus", () => this.#back());
    document.addEventListener("visibilitychange", () => document.hidden || this.#back());
  }

  /** Whether the user can see the page now. */
  get looking() {
    return !document.hidden && document.hasFocus();
  }

  /** Count a message that the user may not have seen. `message`, for one to the user: `{nick, text, room, offset}`. */
  count(message = null) {
    const bell = setting("bell");
    if (bell === "all" || (message && bell === "mention")) ring();
    if (this.looking) return;
    this.#unread += 1;
    if (message) this.#mentions += 1;
    this.show();
    if (message) this.notify(message);
  }

  show() {
    document.title = `${this.#unread ? `(${this.#unread}) ` : ""}${this.room() ?? "syncchat"}`;
    if (this.#badge === this.#mentions) return;
    this.#badge = this.#mentions;
    this.#icon.setAttribute("href", this.#badge ? "-/icon-unread.svg" : "-/icon.svg");
    // For an installed page. A system that has no place for the badge refuses it, which is no error.
    navigator.setAppBadge?.(this.#badge).catch(() => {});
  }

  #back() {
    this.#unread = this.#mentions = 0;
    this.looked();
    this.show();
  }
}

/** Whether a text has the user's nick, or a word that the user wants to be told of, as a word. */
export function mentions(text, nick) {
  return wholeWords([nick, ...setting("highlights")])?.test(text) ?? false;
}
