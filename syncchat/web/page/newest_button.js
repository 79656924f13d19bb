// The button that says how many messages are new below, and leads there.

export class NewestButton {
  #button = document.getElementById("newest");
  #count = 0;

  /** `go()` is called when the user chooses it. */
  constructor(go) {
    this.#button.addEventListener("click", () => {
      go();
      document.getElementById("input").focus();
    });
  }

  count(number) {
    this.#count += number;
  }

  /** Show how many messages have come, or that the user is `far` from the end; none if the user is `there`. */
  show(there, far) {
    if (there) this.#count = 0;
    const number = this.#count;
    const text = number ? `${number.toLocaleString()} new ${number === 1 ? "message" : "messages"} below` : "To the newest messages";
    if (this.#button.textContent !== text) this.#button.textContent = text;
    this.#button.hidden = there || !(number || far);
  }
}
