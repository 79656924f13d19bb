// The URL of the page, which names the room, and with #OFFSET a message in it.

const OFFSET = /^#(\d{1,15})$/u;

export class Address {
  /** The path of the server, which ends with a slash. */
  base = location.pathname.replace(/[^/]*$/u, "");
  #wanted = offsetIn(location.hash); // The message to show when the user is in the room of the URL; null: none.

  /**
   * `heading()` is the name of the room in which the user is, or is about to be. `go(room)` goes to
   * a room, `show(offset)` shows a message of the current one.
   */
  constructor({ heading, go, show }) {
    Object.assign(this, { heading, go, show });
    // Back, forward, and another #OFFSET.
    addEventListener("popstate", () => this.#follow());
    addEventListener("click", (event) => this.#clicked(event));
  }

  /** The name of the room in the URL. */
  get room() {
    return this.#roomOf(location.pathname);
  }

  /** The user is in a room, which has this path; `first`: it is the first one. */
  entered(path, first) {
    if (first) history.replaceState(null, "", path + location.search + location.hash);
    else if (this.heading() !== this.#roomOf(path)) return; // It is only on the way to another one.
    else if (this.room !== this.#roomOf(path)) history.pushState(null, "", path);
    if (this.#wanted !== null && this.room === this.#roomOf(path)) this.show(this.#wanted);
    this.#wanted = null;
  }

  /** The user stays in the room of this path, since another one is refused. */
  stayed(path) {
    if (this.heading() !== this.#roomOf(path)) return;
    if (this.room !== this.#roomOf(path)) history.replaceState(null, "", path);
    this.#wanted = null;
  }

  /** Go to a message: to its room, and to its place there. */
  open(room, offset) {
    history.pushState(null, "", `${this.base}${encodeURIComponent(room)}#${offset}`);
    this.#follow();
  }

  #roomOf(path) {
    const name = path.slice(path.lastIndexOf("/") + 1);
    try {
      return decodeURIComponent(name).replace(/^#+/u, "") || "lobby";
    } catch {
      return name;
    }
  }

  /** Go where the URL says. */
  #follow() {
    const offset = offsetIn(location.hash);
    if (this.heading() === null) return;
    if (this.room !== this.heading()) {
      this.#wanted = offset;
      this.go(this.room);
    } else if (offset !== null) {
      this.show(offset);
    }
  }

  /** A link to a room of this server, or to a message in it, stays in the page. */
  #clicked(event) {
    const link = event.target.closest?.("a[href]");
    if (!link || event.defaultPrevented || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    const url = new URL(link.href);
    const rest = url.pathname.startsWith(this.base) ? url.pathname.slice(this.base.length) : "-/";
    if (url.origin !== location.origin || rest.includes("/") || link.hasAttribute("download")) return;
    if (url.search || (url.hash && offsetIn(url.hash) === null)) return;
    event.preventDefault();
    history.pushState(null, "", url);
    this.#follow();
  }
}

function offsetIn(hash) {
  const [, digits] = OFFSET.exec(hash) ?? [];
  return digits ? Number(digits) : null;
}
