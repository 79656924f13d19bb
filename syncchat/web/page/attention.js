// What tells a user who looks elsewhere that something was said: the number in the title.

export class Attention {
  #unread = 0;

  /**
   * `room()` returns the name of the current room, null before the first. `looked()` is called when
   * the user looks at the page again.
   */
  constructor({ room, looked }) {
    Object.assign(this, { room, looked });
    addEventListener("focus", () => this.#back());
    document.addEventListener("visibilitychange", () => document.hidden || this.#back());
  }

  /** Whether the user can see the page now. */
  get looking() {
    return !document.hidden && document.hasFocus();
  }

  /** Count a message that the user may not have seen. */
  count() {
    if (!this.looking) this.#unread += 1;
    this.show();
  }

  show() {
    document.title = `${this.#unread ? `(${this.#unread}) ` : ""}${this.room() ?? "syncchat"}`;
  }

  #back() {
    this.#unread = 0;
    this.looked();
    this.show();
  }
}
