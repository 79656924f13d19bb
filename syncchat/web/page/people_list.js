// The list of people, and the menu of each.

import { leaving } from "./drawers.js";
import { openMenu } from "./menu.js";
import { follow, isIgnored } from "./settings.js";
import { element, nickOf, removeItem } from "./text.js";

// Nicks to show in the list at most, and without a field to search them.
const MOST = 500, FEW = 30;

const at = (id) => document.getElementById(id);

/** Shows `people` (people.js). `own()` returns the user's nick. */
export class PeopleList {
  #list = at("names");
  #items = new Map(); // nick -> its item in the list
  #find = at("find-person");
  #more = element("p", "more");
  #due = false; // The list is to be drawn in the next animation frame.

  constructor({ people, own }) {
    Object.assign(this, { people, own });
    this.#list.after(this.#more);
    this.#find.addEventListener("input", () => this.#draw());
    follow("ignored", () => this.show());
  }

  show() {
    const { number } = this.people;
    at("who").textContent = number === null ? "People" : `${number} here`;
    at("people-heading").textContent = number === null ? "People" : `People — ${number}`;
    if (this.#due) return;
    this.#due = true;
    // Once for each frame, however many come at a time.
    requestAnimationFrame(() => {
      this.#due = false;
      this.#draw();
    });
  }

  #draw() {
    const { number, all } = this.people;
    this.#find.hidden = number === null || all.length <= FEW;
    const part = this.#find.hidden ? "" : this.#find.value.trim().toLowerCase();
    const found = number === null ? [] : all.filter(({ nick }) => nick.toLowerCase().includes(part));
    const shown = found.slice(0, MOST);
    const items = new Map(shown.map((person) => [person.nick, this.#items.get(person.nick) ?? this.#add(person.nick)]));
    for (const [nick, item] of this.#items) if (!items.has(nick)) removeItem(item);
    this.#items = items;
    let place = this.#list.firstElementChild;
    for (const { nick, away, operator } of shown) {
      const item = items.get(nick);
      if (item === place) place = place.nextElementSibling;
      else this.#list.insertBefore(item, place);
      const is = [
        nick === this.own() && "you", operator && "operator", away !== null && "away", isIgnored(nick) && "ignored",
      ].filter(Boolean).join(", ");
      const button = item.firstElementChild;
      button.classList.toggle("away", away !== null);
      button.title = away ? `${nick} is away: ${away}` : nick;
      button.lastElementChild.textContent = is && ` ${is}`;
    }
    this.#more.hidden = found.length <= MOST && (found.length > 0 || !part);
    this.#more.textContent = found.length ? `and ${found.length - MOST} others` : "Nobody of that name is here.";
  }

  #add(nick) {
    const button = element("button", "", element("span", "dot"), nickOf(nick), element("span", "is"));
    button.type = "button";
    button.ariaHasPopup = "menu";
    button.ariaExpanded = "false";
    button.addEventListener("click", () => openMenu(button, leaving(this.people.actionsFor(nick))));
    return element("li", "", button);
  }
}
