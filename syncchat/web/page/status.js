// The line that says how the connection is, and the messages that are not delivered yet.

import { element } from "./text.js";

// Milliseconds after which unacknowledged messages are counted in the line.
const SLOW = 3000;
// Undelivered messages to show, at most.
const SHOWN = 5;

const state = document.getElementById("state"), waiting = document.getElementById("waiting");
let shown = "";

/** Show how the connection of `page` is. Call it often: a countdown changes each second. */
export function showStatus({ link, log, asked, returning }) {
  const seconds = Math.max(0, Math.ceil((link.retryAt - Date.now()) / 1000));
  const closed = `The server closed the connection${link.reason ? `: ${link.reason}` : ""}. Reload the page to reconnect.`;
  const texts = {
    connecting: returning ? "reconnecting" : "connecting",
    connected: link.called,
    waiting: "reconnecting",
    over: asked.has("quit") ? "You have left. Reload the page to come back." : closed,
  };
  const unsent = link.state !== "connected" || link.waited > SLOW ? link.waiting.length : 0;
  const text = `${texts[link.state]}${unsent ? `, ${unsent} unsent` : ""}`;
  // Hide the countdown from screen readers: it changes every second.
  const countdown = link.state === "waiting" && seconds ? `, in ${seconds} s` : "";
  if (state.firstChild?.data !== text) {
    const hidden = element("span");
    hidden.ariaHidden = "true";
    state.replaceChildren(text, hidden);
  }
  state.lastChild.textContent = countdown;
  state.classList.toggle("alarm", link.state === "waiting" || link.state === "over");
  const texted = link.waiting.slice(-SHOWN).map((event) => event.text ?? `/join ${event.room}`);
  if (texted.join("\n") === shown) return;
  shown = texted.join("\n");
  const follow = log.atEnd;
  waiting.replaceChildren(...texted.map((each) => element("li", "", each)));
  if (follow) log.toEnd();
}
