// The search of a room: a dialog with what was found, from which a message leads to its context.

import { element, nickOf } from "./text.js";
import { when } from "./times.js";

const MOST = 50;
// Characters of a found message to show, at most.
const SHOWN = 300;
const at = (id) => document.getElementById(id);

let searched = ""; // The words whose result is to come.

/** Open the search of the current room; with `words`, search for them. */
export function openSearch(page, words = "") {
  at("search-form").onsubmit = (event) => {
    event.preventDefault();
    search(page, at("search-words").value.trim());
  };
  at("search-close").onclick = () => at("search").close();
  if (!at("search").open) at("search").showModal();
  at("search-words").value = words || at("search-words").value;
  at("search-words").select();
  if (words) search(page, words);
}

function search(page, words) {
  if (!words) return;
  searched = words;
  at("found").replaceChildren();
  const isAsked = page.link?.ask({ type: "search", words, limit: MOST });
  at("search-state").textContent = isAsked ? "Searching…" : "There is no connection to the server.";
}

/** Show what the server has found; the newest come first. */
export function showFound(messages, page) {
  const number = messages.length;
  at("search-state").textContent = number
    ? `${number === MOST ? "The newest " : ""}${number} ${number === 1 ? "message" : "messages"} with “${searched}”`
    : `No message with “${searched}”.`;
  at("found").replaceChildren(...messages.map((message) => {
    const { nick, offset, text, time } = message;
    const short = text.length > SHOWN ? `${text.slice(0, SHOWN)}…` : text;
    const body = element("span", "", short);
    body.dir = "auto";
    const choose = element("button", "", nickOf(nick), element("time", "", when(time)), body);
    choose.type = "button";
    choose.addEventListener("click", () => {
      at("search").close();
      page.log.show(offset);
    });
    return element("li", "", choose);
  }));
}

/** Say why the server has not searched. Returns whether a search was waiting. */
export function searchFailed(text) {
  if (!at("search").open) return false;
  at("search-state").textContent = text;
  return true;
}
