// The line that says how the connection is, and the messages that are not delivered yet.

import { isAsking } from "./dialog.js";
import { element } from "./text.js";

// Milliseconds after which unacknowledged messages are counted in the line.
const SLOW = 3000;
// Undelivered messages to show, at most.
const SHOWN = 5;

const state = document.getElementById("state"), waiting = document.getElementById("waiting");
const countdown = element("span"), again = element("button", "again");
let shown = "", listed = "";

again.type = "button";
// Hide it from screen readers: it changes every second.
countdown.ariaHidden = "true";

/** Show how the connection of `page` is. Call it often: a countdown changes each second. */
export function showStatus({ link, log, asked, returning }) {
  const seconds = Math.max(0, Math.ceil((link.retryAt - Date.now()) / 1000));
  const why = link.reason ? `: ${link.reason.replace(/\.$/u, "")}` : "";
  // What comes before the countdown, and after it.
  const [text, more] = {
    connecting: [returning ? "Reconnecting" : "Connecting", ""],
    connected: [link.called, ""],
    waiting: navigator.onLine ? ["Reconnecting", why] : ["You are offline. Reconnecting when the network is back", ""],
    over: isAsking() ? ["", ""] : asked.has("quit") ? ["You have left", ""] : ["The server closed the connection", why],
    refused: [link.reason, ""],
  }[link.state];
  const unsent = link.state !== "connected" || link.waited > SLOW ? link.waiting.length : 0;
  const rest = `${more}${unsent ? `, ${unsent} unsent` : ""}`;
  if (shown !== `${text} ${rest}`) {
    shown = `${text} ${rest}`;
    state.replaceChildren(...(text ? [text, countdown, rest] : []));
  }
  countdown.textContent = link.state === "waiting" && seconds && navigator.onLine ? ` in ${seconds} s` : "";
  const stopped = ["over", "refused"].includes(link.state) && !isAsking();
  again.textContent = link.state === "refused" ? "Try again" : "Reconnect";
  again.onclick = () => link.open();
  if (stopped && !again.isConnected) state.append(again);
  else if (!stopped) again.remove();
  state.classList.toggle("alarm", !["connecting", "connected"].includes(link.state));
  const texted = link.waiting.slice(-SHOWN).map((event) => event.text ?? `/join ${event.room}`);
  if (texted.join("\n") === listed) return;
  listed = texted.join("\n");
  const follow = log.atEnd;
  waiting.replaceChildren(...texted.map((each) => element("li", "", each)));
  if (follow) log.toEnd();
}
