// The URL of the page, which names the room.

export class Address {
  #byHistory = false; // Back or forward was pressed, and has changed the URL already.

  /** `go(room)` is called when the user goes back or forward to a room. */
  constructor(go) {
    addEventListener("popstate", () => {
      this.#byHistory = go(decodeURIComponent(location.pathname.split("/").pop()) || "lobby");
    });
  }

  /** The path of the server, which ends with a slash. */
  get base() {
    return location.pathname.replace(/[^/]*$/u, "");
  }

  /** The user has entered the first room, which has this path. */
  begin(path) {
    history.replaceState(null, "", path + location.search);
  }

  /** The user has come to another room. */
  moved(path) {
    if (!this.#byHistory) history.pushState(null, "", path);
    this.#byHistory = false;
  }
}
