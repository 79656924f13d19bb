// Notifications of the desktop, and the bell.

import { follow, set, setting } from "./settings.js";
import { element } from "./text.js";

// Characters of a message in a notification, at most.
const SHORT = 200;
// The two tones of the bell in Hertz, and their length in seconds.
const TONES = [660, 880], LENGTH = 0.12;

let audio = null; // Made when the bell first rings.

/** `open(room, offset)` is called when the user clicks on a notification. */
export class Notifier {
  #bar = null; // Asks whether the user wants notifications; null: it is not shown.

  constructor(open) {
    this.open = open;
    follow("notify", (wanted) => wanted !== null && this.#close());
  }

  /** Tell of a message for the user: `{nick, text, room, offset}`; no `room`: it is private. */
  notify({ nick, text, room, offset, time }) {
    if (!("Notification" in window)) return;
    if (setting("notify") === null && Notification.permission !== "denied") this.#offer();
    if (!setting("notify") || Notification.permission !== "granted") return;
    // All tabs of a room show the same one, since the tag is the same.
    const tag = `syncchat ${room ?? nick} ${offset ?? time}`;
    let shown;
    try {
      shown = new Notification(room ? `${nick} in ${room}` : nick, { body: text.slice(0, SHORT), tag, icon: "-/icon.svg" });
    } catch {
      return; // Chrome on Android shows notifications of service workers only.
    }
    shown.addEventListener("click", () => {
      window.focus();
      shown.close();
      this.open(room, offset);
    });
  }

  #offer() {
    if (this.#bar) return;
    const on = element("button", "", "Turn on");
    const later = element("button", "", "Not now");
    on.addEventListener("click", () => turnOn());
    later.addEventListener("click", () => set("notify", false));
    this.#bar = element("div", "", element("p", "", "You were mentioned. Do you want a notification when that happens?"), on, later);
    this.#bar.id = "offer";
    this.#bar.role = "region";
    this.#bar.ariaLabel = "Notifications";
    document.querySelector("main").prepend(this.#bar);
  }

  #close() {
    this.#bar?.remove();
    this.#bar = null;
  }
}

/** Ask the browser for the permission, and remember whether the user wants notifications. */
export async function turnOn() {
  const answer = await Notification.requestPermission();
  set("notify", answer === "granted");
  return answer;
}

/** A short sound. */
export function ring() {
  audio ??= new AudioContext();
  audio.resume(); // It stays silent until the user has touched the page once.
  for (const [at, tone] of TONES.entries()) {
    const source = new OscillatorNode(audio, { frequency: tone });
    const volume = new GainNode(audio, { gain: 0 });
    const begin = audio.currentTime + at * LENGTH;
    volume.gain.setValueAtTime(0.15, begin);
    volume.gain.exponentialRampToValueAtTime(0.001, begin + LENGTH);
    source.connect(volume).connect(audio.destination);
    source.start(begin);
    source.stop(begin + LENGTH);
  }
}
