// The people in the room: who is here, and who spoke last.

import { element, nickOf } from "./text.js";

// Nicks to show in the list, at most.
const MOST = 500;

export class People {
  #names = new Map(); // nick -> when it last spoke or took this nick, in milliseconds since 1970; 0: unknown
  #list = document.getElementById("names");
  #button = document.getElementById("who");

  /** The people are now these. */
  set(nicks) {
    this.#names = new Map(nicks.map((nick) => [nick, this.#names.get(nick) ?? 0]));
    this.#show(nicks.length);
  }

  /** These people have come; `number` are here now. */
  came(nicks, number) {
    for (const nick of nicks) this.#names.set(nick, this.#names.get(nick) ?? 0);
    this.#show(number);
  }

  /** These people have left; `number` are here now. */
  left(nicks, number) {
    for (const nick of nicks) this.#names.delete(nick);
    this.#show(number);
  }

  renamed(old, nick) {
    this.#names.delete(old);
    this.#names.set(nick, Date.now());
    this.#show(this.#names.size);
  }

  /** Note that a person has spoken. */
  heard(nick) {
    if (this.#names.has(nick)) this.#names.set(nick, Date.now());
  }

  /** The nicks of the people but `own`; the one that spoke last comes first. */
  others(own) {
    const others = [...this.#names].filter(([nick]) => nick !== own);
    others.sort(([one, atOne], [two, atTwo]) => atTwo - atOne || one.localeCompare(two));
    return others.map(([nick]) => nick);
  }

  #show(number) {
    this.#button.textContent = `${number} here`;
    const sorted = [...this.#names.keys()].sort((one, two) => one.localeCompare(two));
    this.#list.replaceChildren(...sorted.slice(0, MOST).map((nick) => element("li", "", nickOf(nick))));
  }
}
