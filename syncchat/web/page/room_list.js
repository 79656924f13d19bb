// The list of rooms, and the menu of each.

import { openMenu } from "./menu.js";
import { element, removeItem } from "./text.js";

/** Calls `choose(room)` when the user clicks on a room. `actions(room)` returns the groups of its menu. */
export class RoomList {
  #list = document.getElementById("followed");
  #opener = document.getElementById("rooms-open"); // On a phone, it tells of news in other rooms.
  #items = new Map(); // name -> its item in the list

  constructor({ choose, actions }) {
    Object.assign(this, { choose, actions });
  }

  /** Show these rooms (rooms.js). */
  show(rooms) {
    const { names, current } = rooms;
    for (const [name, item] of this.#items) {
      if (names.includes(name)) continue;
      removeItem(item);
      this.#items.delete(name);
    }
    let unreadElsewhere = 0, mentionedElsewhere = false;
    for (const [at, name] of names.entries()) {
      const item = this.#items.get(name) ?? this.#add(name);
      if (this.#list.children[at] !== item) this.#list.insertBefore(item, this.#list.children[at] ?? null);
      const { unread, mentioned } = rooms.news(name);
      unreadElsewhere += unread;
      mentionedElsewhere ||= mentioned;
      const button = item.firstElementChild;
      const [, count, words] = button.children;
      const isNew = name === current && !button.ariaCurrent;
      button.ariaCurrent = name === current ? "page" : null;
      count.hidden = !unread;
      count.textContent = `${mentioned ? "@" : ""}${unread}`;
      words.textContent = unread ? ` ${unread} unread${mentioned ? ", one mentions you" : ""}` : "";
      button.classList.toggle("mentioned", mentioned);
      button.classList.toggle("unread", unread > 0 && !mentioned);
      if (isNew) item.scrollIntoView({ block: "nearest" });
    }
    this.#opener.toggleAttribute("data-unread", unreadElsewhere > 0);
    const news = mentionedElsewhere ? ", one mentions you" : "";
    this.#opener.ariaLabel = unreadElsewhere ? `Rooms, ${unreadElsewhere} unread${news}` : "Rooms";
  }

  #add(name) {
    const count = element("span", "count");
    count.ariaHidden = "true";
    const button = element("button", "room", element("span", "name", name), count, element("span", "unseen"));
    button.type = "button";
    button.title = name;
    button.addEventListener("click", () => this.choose(name));
    const options = element("button", "icon options", "⋯");
    options.type = "button";
    options.ariaLabel = `Menu of ${name}`;
    options.ariaHasPopup = "menu";
    options.ariaExpanded = "false";
    options.addEventListener("click", () => openMenu(options, this.actions(name)));
    const item = element("li", "", button, options);
    this.#items.set(name, item);
    return item;
  }
}
