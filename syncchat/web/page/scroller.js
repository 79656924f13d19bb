// Where the log is scrolled to. The page keeps the place by itself, the same in all browsers.

// Pixels from the end within which the user counts as reading the newest messages.
const NEAR = 80;

export class Scroller {
  #box = document.getElementById("talk");
  #list = document.getElementById("log");
  #held = null; // An item of the list, and its place on the screen.
  #top = 0;

  /** `moved()` is called when the place has changed, `resized()` when the size has. */
  constructor({ moved, resized }) {
    this.#box.addEventListener("scroll", moved, { passive: true });
    new ResizeObserver(resized).observe(this.#box);
  }

  /** Pixels above what is visible, and below it. */
  get above() {
    return this.#box.scrollTop;
  }

  get below() {
    return this.#box.scrollHeight - this.#box.scrollTop - this.#box.clientHeight;
  }

  /** The height of what is visible. */
  get height() {
    return this.#box.clientHeight;
  }

  get atEnd() {
    return this.below < NEAR;
  }

  toEnd() {
    this.#box.scrollTop = this.#box.scrollHeight;
  }

  /** Scroll an item to the middle, or to the top. */
  to(node, block) {
    node.scrollIntoView({ block });
  }

  /** The first message or line that is visible; null: there is none. */
  get firstVisible() {
    const items = this.#list.children, { top } = this.#box.getBoundingClientRect();
    // Days and marks come and go with what is around them.
    const isFleeting = (item) => item.hidden || item.matches(".day, .mark");
    let low = 0, high = items.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      // A hidden item has no place: search on with its neighbour.
      let at = middle;
      while (at < high && items[at].hidden) at += 1;
      if (at === high || items[at].getBoundingClientRect().bottom > top) high = middle;
      else low = at + 1;
    }
    while (items[low] && isFleeting(items[low])) low += 1;
    return items[low] ?? null;
  }

  /** Note the place, before the list changes. */
  hold() {
    this.#held = this.firstVisible;
    this.#top = this.#held?.getBoundingClientRect().top ?? 0;
  }

  /** Go back to the noted place, after the list has changed. */
  restore() {
    if (this.#held?.isConnected) this.#box.scrollTop += this.#held.getBoundingClientRect().top - this.#top;
  }
}
