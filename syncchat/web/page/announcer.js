// Has screen readers say what is new. The list itself is no live region: they would read history.

import { element } from "./text.js";

// Texts to say at a time, characters of each, and milliseconds after which they are removed.
const MOST = 5, LONGEST = 300, STAYS = 10_000;

export class Announcer {
  #region = document.getElementById("spoken");
  #number = 0;
  #texts = [];

  /** Say the text of an item of the list. */
  add(item) {
    this.#number += 1;
    if (this.#number > MOST) this.#texts = [];
    else this.#texts.push(item);
  }

  /** Say all that was added since. */
  speak() {
    const texts = this.#number > MOST ? [`${this.#number} new messages`] : this.#texts.filter(Boolean).map(textOf);
    this.#number = 0;
    this.#texts = [];
    for (const text of texts) {
      const said = element("p", "", text);
      this.#region.append(said);
      setTimeout(() => said.remove(), STAYS);
    }
  }
}

/** Who says what, without the time. */
function textOf(item) {
  const time = item.querySelector("time")?.textContent.length ?? 0;
  return item.textContent.slice(time, time + LONGEST);
}
