// The input, and the completions of what is typed.

import { completions } from "./commands.js";
import { element } from "./text.js";

/**
 * `enter(line)` acts on a line, and returns whether to clear the input. `words()` returns the nicks
 * of the others, the one that spoke last first, and the rooms. `askRooms()` asks the server for
 * the rooms, and returns whether there is a connection.
 */
export class Composer {
  #form = document.getElementById("composer");
  #input = document.getElementById("input");
  #candidates = document.getElementById("candidates");
  #choosing = null; // The completions on offer; null: none.
  #tabbed = false; // Tab was pressed where a room is expected when none was known.

  constructor({ enter, words, askRooms }) {
    Object.assign(this, { enter, words, askRooms });
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#input.addEventListener("keydown", (event) => event.isComposing || this.#pressed(event));
    this.#input.addEventListener("input", () => this.#typed());
  }

  focus() {
    this.#input.focus();
  }

  /** Put a text at the caret. */
  insert(text) {
    this.focus();
    this.#input.setRangeText(text, this.#input.selectionStart, this.#input.selectionEnd, "end");
    this.#typed();
  }

  /** Say in the empty input what it is for. */
  set hint(text) {
    this.#input.placeholder = text;
  }

  /** Offer the rooms, which have come from the server, if the user waits for them. */
  offerRooms() {
    if (this.#tabbed && this.#input.value.startsWith("/join ")) this.#offer(true);
    this.#tabbed = false;
  }

  #submit() {
    const line = this.#input.value.trimEnd();
    this.#close();
    if (!line.trim()) return;
    if (this.enter(line)) {
      this.#input.value = "";
      this.#fit();
    }
    this.focus();
  }

  #pressed(event) {
    const choosing = this.#choosing;
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      // Enter takes a completion only if the user chose it by Tab or an arrow key.
      if (choosing?.byHand) this.#choose(choosing.at);
      else this.#form.requestSubmit();
    } else if (event.key === "Tab" && !event.shiftKey && this.#input.value) {
      if (this.#offer(true) || this.#input.value.startsWith("/")) event.preventDefault();
    } else if (choosing && !event.altKey && ["ArrowDown", "ArrowUp"].includes(event.key)) {
      event.preventDefault();
      this.#move(event.key === "ArrowDown" ? 1 : -1);
    } else if (event.key === "Escape" && choosing) {
      event.preventDefault();
      this.#close();
    }
  }

  #typed() {
    const { value } = this.#input;
    this.#fit();
    if (value === "/join ") this.askRooms();
    if (value.startsWith("/") && !value.includes(" ")) this.#offer(false);
    else this.#close();
  }

  #fit() {
    this.#input.style.setProperty("height", "auto");
    this.#input.style.setProperty("height", `${this.#input.scrollHeight + 2}px`);
  }

  /** Offer completions. On Tab, insert the only one at once. Returns whether there are some. */
  #offer(byTab) {
    if (this.#choosing && byTab) {
      this.#choose(this.#choosing.at);
      return true;
    }
    const { people, rooms, known } = this.words();
    const upTo = this.#input.value.slice(0, this.#input.selectionStart);
    if (byTab && !known && upTo.startsWith("/join ")) {
      this.#tabbed = this.askRooms();
      if (this.#tabbed) return true;
    }
    const { from, choices } = completions(upTo, people, rooms);
    this.#choosing = choices.length ? { from, choices: choices.slice(0, 50), at: 0, byHand: byTab } : null;
    if (byTab && choices.length === 1) {
      this.#choose(0);
      return true;
    }
    this.#show();
    return choices.length > 0;
  }

  #choose(index) {
    const { from, choices } = this.#choosing;
    const rest = this.#input.value.slice(this.#input.selectionStart);
    const before = this.#input.value.slice(0, from) + choices[index].put;
    this.#input.value = before + rest;
    this.#input.setSelectionRange(before.length, before.length);
    this.#close();
    this.#fit();
  }

  #move(by) {
    const choosing = this.#choosing;
    // The first ArrowDown only chooses the candidate that is marked already.
    if (choosing.byHand || by < 0) choosing.at = (choosing.at + by + choosing.choices.length) % choosing.choices.length;
    choosing.byHand = true;
    this.#show();
  }

  #show() {
    const list = this.#candidates, choosing = this.#choosing;
    list.hidden = !choosing;
    this.#input.removeAttribute("aria-activedescendant");
    if (!choosing) return;
    list.replaceChildren(...choosing.choices.map(({ shown, hint }, index) => {
      const item = element("li", "", shown, ...(hint ? [element("small", "", hint)] : []));
      item.id = `candidate-${index}`;
      item.role = "option";
      item.ariaSelected = String(index === choosing.at);
      item.addEventListener("pointerdown", (event) => {
        event.preventDefault();
        this.#choose(index);
      });
      return item;
    }));
    this.#input.setAttribute("aria-activedescendant", `candidate-${choosing.at}`);
    list.children[choosing.at].scrollIntoView({ block: "nearest" });
  }

  #close() {
    this.#choosing = null;
    this.#show();
  }
}
