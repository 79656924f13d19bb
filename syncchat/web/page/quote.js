// The message that the user answers, in a bar above the input.

// Characters of the message to quote, at most.
const LONGEST = 120;

export class Quote {
  #bar = document.getElementById("quoting");
  #quoted = null;

  /** `changed()` is called when the user cancels the quote. */
  constructor(changed) {
    this.#bar.querySelector("button").addEventListener("click", () => {
      this.show(null);
      changed();
    });
  }

  /** The message, `{nick, text, offset}`; null: there is none. */
  get quoted() {
    return this.#quoted;
  }

  show(quoted) {
    this.#quoted = quoted;
    this.#bar.hidden = !quoted;
    if (!quoted) return;
    const [nick, text] = this.#bar.querySelectorAll("bdi");
    nick.textContent = quoted.nick;
    text.textContent = excerpt(quoted.text);
  }

  /** A text with the quote in front, which all clients show. */
  before(text) {
    return this.#quoted ? `> ${this.#quoted.nick}: ${excerpt(this.#quoted.text)}\n${text}` : text;
  }
}

/** The beginning of a message in one line, without what it quotes itself. */
function excerpt(text) {
  const own = text.replace(/^(?:> .*(?:\n|$))+/u, "") || text;
  const signs = [...own.replace(/\s+/gu, " ").trim()];
  return signs.length > LONGEST ? `${signs.slice(0, LONGEST - 1).join("")}…` : signs.join("");
}
