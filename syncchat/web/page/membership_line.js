// A line that says who has come and gone. Such lines in a row are one.

import { element, nickOf } from "./text.js";

// Nicks to name, and to keep, in one line.
const NAMED = 10, MOST = 200;

export class MembershipLine {
  node = element("li", "notice");
  #people = new Map(); // nick -> whether the person has come; otherwise the person has gone.

  /** Whether the next people need another line. */
  get full() {
    return this.#people.size >= MOST;
  }

  /** Add people who have come, or gone. */
  add(nicks, came) {
    for (const nick of nicks) {
      this.#people.delete(nick);
      this.#people.set(nick, came);
    }
    this.node.replaceChildren(...this.#children(true), ...this.#children(false));
  }

  #children(came) {
    const nicks = [...this.#people].filter(([, each]) => each === came).map(([nick]) => nick);
    if (!nicks.length) return [];
    const named = nicks.slice(0, NAMED).flatMap((nick, at) => [at ? ", " : "", nickOf(nick)]);
    const others = nicks.length > NAMED ? ` and ${nicks.length - NAMED} others` : "";
    return [...named, `${others} ${came ? "joined" : "left"}. `];
  }
}
