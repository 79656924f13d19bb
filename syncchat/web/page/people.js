// The people in the room: who is here, who is away, and who spoke last.

const ORDER = new Intl.Collator();

/** `show()` is called when something to show has changed. `actionsFor(nick)` returns the groups of a person's menu. */
export class People {
  // nick -> {spoke, away, operator}. `spoke`: when it last spoke or took this nick, in milliseconds
  // since 1970; 0: unknown. `away`: the reason, null: it is not away. `operator`: it is known to be one.
  #people = new Map();
  #number = 0;
  #here = false; // The connection is up, so the list is right.

  constructor({ show, actionsFor }) {
    Object.assign(this, { show, actionsFor });
  }

  /** The people are now these; those in `away` are away. */
  set(nicks, away = []) {
    const absent = new Set(away);
    const before = this.#people;
    this.#people = new Map(nicks.map((nick) => {
      const known = before.get(nick) ?? { spoke: 0, away: null, operator: false };
      return [nick, { ...known, away: absent.has(nick) ? known.away ?? "" : null }];
    }));
    this.#here = true;
    this.#changed(nicks.length);
  }

  /** These people have come; `number` are here now. */
  came(nicks, number) {
    for (const nick of nicks) this.#people.set(nick, this.#people.get(nick) ?? { spoke: 0, away: null, operator: false });
    this.#changed(number);
  }

  /** These people have left; `number` are here now. */
  left(nicks, number) {
    for (const nick of nicks) this.#people.delete(nick);
    this.#changed(number);
  }

  renamed(old, nick) {
    const person = this.#people.get(old) ?? { away: null, operator: false };
    this.#people.delete(old);
    this.#people.set(nick, { ...person, spoke: Date.now() });
    this.#changed(this.#people.size);
  }

  /** Note that a person has spoken, in milliseconds since 1970. */
  heard(nick, at = Date.now()) {
    const person = this.#people.get(nick);
    if (person) person.spoke = Math.max(person.spoke, at);
  }

  /** Note what is known of a person: `away`, `operator`, or both. */
  note(nick, known) {
    const person = this.#people.get(nick);
    if (!person) return;
    Object.assign(person, known);
    this.show();
  }

  /** Whether a person is known to be an operator of the room. */
  isOperator(nick) {
    return this.#people.get(nick)?.operator === true;
  }

  /** There is no connection, so nobody knows who is here. */
  offline() {
    if (!this.#here) return;
    this.#here = false;
    this.show();
  }

  /** How many people are here; null: there is no connection. */
  get number() {
    return this.#here ? this.#number : null;
  }

  /** All people in the order of their nicks: `{nick, away, operator}`. */
  get all() {
    const sorted = [...this.#people].sort(([one], [two]) => ORDER.compare(one, two));
    return sorted.map(([nick, { away, operator }]) => ({ nick, away, operator }));
  }

  /** The nicks of the people but `own`; the one that spoke last comes first. */
  others(own) {
    return this.#byTime(([nick]) => nick !== own);
  }

  /** Those of them that have spoken. */
  speakers(own) {
    return this.#byTime(([nick, { spoke }]) => nick !== own && spoke > 0);
  }

  #byTime(wanted) {
    const people = [...this.#people].filter(wanted);
    people.sort(([one, { spoke: first }], [two, { spoke: second }]) => second - first || ORDER.compare(one, two));
    return people.map(([nick]) => nick);
  }

  #changed(number) {
    this.#number = number;
    this.show();
  }
}
