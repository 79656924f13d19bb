// The rooms that the user follows: what was seen and what is unread in each.

import { keep, kept, keysOf } from "./storage.js";

// Milliseconds between two writes of the places.
const PAUSE = 2000;
// Rooms that a client can watch, at most.
const MOST = 200;
// What the server takes as a place.
const PLACE = /^([0-9A-Za-z_-]{1,64}):([0-9]{1,15})$/u;

/**
 * `base`: the path of the server, which ends with a slash. `report(room, place)` is called with the
 * places that the server is to keep, `show()` when something to show has changed.
 */
export class Rooms {
  // name -> {epoch, seen, end, mentioned, watched, since}. `epoch`, `seen`: the last position that
  // the user has seen. `end`: the last offset of the log. `since`: when the user came first.
  #rooms = new Map();
  #visited = []; // The names of the rooms that the user was in, the current one last.
  #changed = new Set(); // The names of the rooms that are to be written,
  #advanced = new Set(); // and of those in which the user has seen more.
  #timer = 0;
  #prefix;

  constructor(base, { report, show }) {
    Object.assign(this, { report, show });
    this.#prefix = `syncchat.room ${base}`;
    for (const key of keysOf("local", this.#prefix)) {
      const name = key.slice(this.#prefix.length);
      const stored = this.#stored(name);
      if (stored) this.#rooms.set(name, { ...stored, end: stored.seen });
    }
    addEventListener("pagehide", () => this.save());
    addEventListener("storage", ({ key }) => key?.startsWith(this.#prefix) && this.#read(key.slice(this.#prefix.length)));
  }

  /** The name of the current room; null: there is none yet. */
  get current() {
    return this.#visited.at(-1) ?? null;
  }

  /** The epoch of the current room's log. */
  get epoch() {
    return this.#rooms.get(this.current)?.epoch;
  }

  /** The names of the followed rooms and of the current one, in the order in which the user came first. */
  get names() {
    const shown = [...this.#rooms].filter(([name, room]) => room.watched || name === this.current);
    return shown.sort(([, one], [, two]) => one.since - two.since).map(([name]) => name);
  }

  /** The same names, the room that the user was in last first. */
  get recent() {
    const names = new Set(this.names);
    return [...new Set([...this.#visited.toReversed(), ...names])].filter((name) => names.has(name));
  }

  /** What is new in a room: how many unread messages, and whether one mentions the user. Nothing in the current one. */
  news(name) {
    const unread = name === this.current ? 0 : this.#unread(name);
    return { unread, mentioned: unread > 0 && this.#rooms.get(name).mentioned };
  }

  /** The followed rooms but the current one, or of these only `name`, for a request to watch them. */
  toWatch(name) {
    const names = this.names.filter((each) => each !== this.current && (!name || each === name)).slice(0, MOST);
    return names.map((each) => ({ room: each, after: this.#place(each) }));
  }

  /**
   * Note the server's welcome. Returns the last offset that the user had seen of this log; null if
   * the user comes for the first time.
   */
  enter({ room: name, epoch, offset, places = {} }) {
    for (const [each, place] of Object.entries(places)) this.#take(each, place);
    const known = this.#rooms.get(name);
    const seen = known?.epoch === epoch ? known.seen : 0;
    const watched = name === this.current ? known.watched : true;
    const since = known?.since ?? Date.now();
    this.#rooms.set(name, { epoch, seen: Math.min(seen, offset), end: offset, mentioned: false, watched, since });
    this.#visited = [...this.#visited.filter((each) => each !== name), name];
    this.#change(name);
    this.show();
    return known ? seen : null;
  }

  /** Note a message of the current room. */
  heard(offset) {
    const room = this.#rooms.get(this.current);
    room.end = Math.max(room.end, offset);
  }

  /** Note that the user sees everything of the current room. */
  look() {
    const room = this.#rooms.get(this.current);
    if (!room || room.seen >= room.end) return;
    room.seen = room.end;
    this.#advanced.add(this.current);
    this.#change(this.current);
  }

  /** Note that the user wants to count nothing as unread in a room. */
  markRead(name) {
    const room = this.#rooms.get(name);
    Object.assign(room, { seen: room.end, mentioned: false });
    this.#advanced.add(name);
    this.#change(name);
    this.show();
  }

  /** Note an `activity`. Returns whether it is about a followed room. */
  note({ room: name, epoch, offset, mention }) {
    const room = this.#rooms.get(name);
    if (!room?.watched || name === this.current) return false;
    // A new log has only messages that the user has not seen.
    if (room.epoch !== epoch) Object.assign(room, { epoch, seen: 0 });
    room.end = offset;
    room.mentioned = room.seen < offset && (room.mentioned || mention !== undefined);
    this.#change(name);
    this.show();
    return true;
  }

  /** Follow a room no more. Returns the room to go to if it is the current one; null: there is no other one. */
  part(name) {
    const room = this.#rooms.get(name);
    const others = this.names.filter((each) => each !== name);
    const back = this.#visited.filter((each) => others.includes(each)).at(-1) ?? others[0] ?? null;
    if (name !== this.current || back) {
      room.watched = false;
      this.#change(name);
      this.show();
    }
    return back;
  }

  /** The name of the room that is `by` places from the current one; with `active`, the next with something unread. */
  next(by, active) {
    const { names } = this;
    const at = names.indexOf(this.current);
    const turn = names.map((_, step) => names[(at + by * (step + 1) + names.length * MOST) % names.length]);
    return turn.find((name) => name !== this.current && (!active || this.#unread(name)));
  }

  #unread(name) {
    const { end, seen } = this.#rooms.get(name);
    return Math.max(0, end - seen);
  }

  #place(name) {
    const { epoch, seen } = this.#rooms.get(name);
    return `${epoch}:${seen}`;
  }

  // Keeping the places.

  #change(name) {
    this.#changed.add(name);
    this.#timer ||= setTimeout(() => this.save(), PAUSE);
  }

  /** Write the places that have changed. */
  save() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    for (const name of this.#changed) {
      this.#read(name); // Another tab may have seen more.
      const { epoch, seen, mentioned, watched, since } = this.#rooms.get(name);
      keep("local", this.#prefix + name, JSON.stringify({ epoch, seen, mentioned, watched, since }));
    }
    // An older place would hide from the server what another device has seen.
    for (const name of this.#advanced) this.report(name, this.#place(name));
    this.#changed.clear();
    this.#advanced.clear();
  }

  /** What is stored about a room; null: nothing, or nothing that makes sense. */
  #stored(name) {
    try {
      const { epoch, seen, mentioned, watched, since } = JSON.parse(kept("local", this.#prefix + name));
      if (!PLACE.test(`${epoch}:${seen}`) || typeof seen !== "number") return null;
      return { epoch, seen, mentioned: mentioned === true, watched: watched === true, since: Number(since) || 0 };
    } catch {
      return null; // Another program, or the user, has changed it.
    }
  }

  /** Take the place that another tab has written. */
  #read(name) {
    const stored = this.#rooms.has(name) && this.#stored(name);
    if (stored) this.#take(name, `${stored.epoch}:${stored.seen}`);
  }

  /** Take a place of another tab or of another device, unless this page has seen more. */
  #take(name, place) {
    const [, epoch, digits] = PLACE.exec(place) ?? [];
    const seen = Number(digits);
    const room = this.#rooms.get(name);
    if (!epoch) return;
    if (!room) {
      this.#rooms.set(name, { epoch, seen, end: seen, mentioned: false, watched: false, since: Date.now() });
    } else if (room.epoch === epoch && room.seen < seen) {
      room.seen = seen;
      if (seen >= room.end) room.mentioned = false;
      this.show();
    }
  }
}
