// The list of completions above the input. A textarea may have no other role than textbox (ARIA in
// HTML), so it cannot be a combobox; its `aria-activedescendant` tells the marked candidate, and a
// polite text their number.

import { element } from "./text.js";

export class Candidates {
  #list = document.getElementById("candidates");
  #number = document.getElementById("candidates-number");
  #choices = [];
  #at = 0;

  /** `choose(choice)` is called when the user points at a candidate. */
  constructor(input, choose) {
    this.input = input;
    // The input keeps the focus, and a phone its keyboard.
    this.#list.addEventListener("mousedown", (event) => event.preventDefault());
    this.#list.addEventListener("click", ({ target }) => {
      const item = target.closest("[role=option]");
      if (item) choose(this.#choices[[...this.#list.children].indexOf(item)]);
    });
    this.moved = false; // The user has moved in the list.
  }

  get open() {
    return this.#choices.length > 0;
  }

  /** The candidate that Tab takes. */
  get marked() {
    return this.#choices[this.#at];
  }

  /** Show these candidates; none closes the list. */
  show(choices) {
    if (!choices.length && !this.open) return;
    this.#choices = choices;
    this.moved = false;
    this.#list.hidden = !choices.length;
    this.#number.textContent = choices.length ? `${choices.length} ${choices.length === 1 ? "completion" : "completions"}` : "";
    this.#list.replaceChildren(...choices.map(({ shown, hint }, index) => {
      const item = element("li", "", shown, ...(hint ? [element("small", "", hint)] : []));
      item.id = `candidate-${index}`;
      item.role = "option";
      return item;
    }));
    this.#mark(0);
  }

  move(by) {
    this.moved = true;
    this.#mark((this.#at + by + this.#choices.length) % this.#choices.length);
  }

  close() {
    this.show([]);
  }

  #mark(index) {
    this.#at = index;
    for (const [each, item] of [...this.#list.children].entries()) item.ariaSelected = String(each === index);
    const item = this.#list.children[index];
    if (item) this.input.setAttribute("aria-activedescendant", item.id);
    else this.input.removeAttribute("aria-activedescendant");
    item?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }
}
