// The search: a panel with a field, and the messages that are found, which lead to their context.

import { bodyOf } from "./message.js";
import { element, nickOf, rich, wholeWords } from "./text.js";
import { when } from "./times.js";

// Messages to find, at most.
const MOST = 50;
// Characters of a long message to show, and how many of them stand before what was found.
const EXCERPT = 300, BEFORE = 60;
// Milliseconds without a key after which the search begins.
const PAUSE = 300;
const NARROW = matchMedia("(max-width: 60rem)");

const panel = document.getElementById("search"), field = document.getElementById("search-words");
const list = document.getElementById("found"), summary = document.getElementById("found-summary");
let opener = null; // What had the focus before.
let page = null;
let timer = 0;
let words = "";

/** Open the panel; with words, search for them. `parts` are the parts of the page (app.js). */
export function openSearch(parts, typed = "") {
  page = parts;
  if (!panel.open) {
    opener = document.activeElement;
    panel.show();
  }
  field.focus();
  if (typed) {
    field.value = typed;
    search();
  }
  field.select();
}

/** Show what the server has found. */
export function showFound({ messages, complete }) {
  const wanted = wordBegins(words);
  list.replaceChildren(...messages.toReversed().map((message) => {
    const button = element("button", "", element("span", "head", nickOf(message.nick), ` ${when(message.time)}`), " ");
    button.type = "button";
    const item = element("li", "", button, message.text.length > EXCERPT ? excerptOf(message.text, wanted) : bodyOf(message, wanted));
    item.dataset.found = message.offset;
    button.addEventListener("click", () => choose(item));
    item.addEventListener("click", ({ target }) => target.closest("a, button") || choose(item));
    return item;
  }));
  const number = messages.length;
  const count = `${number} ${number === 1 ? "message" : "messages"} found`;
  summary.textContent = number ? `${complete ? count : `The newest ${number} messages`}.` : "No messages found.";
}

/** The part of a long message in which something was found. */
function excerptOf(text, wanted) {
  const found = wanted ? text.search(wanted) : 0;
  const from = Math.max(0, found - BEFORE), to = from + EXCERPT;
  const part = text.slice(from, to);
  const excerpt = element("div", "text plain", from > 0 ? "…" : "", ...rich(part, wanted), to < text.length ? "…" : "");
  excerpt.dir = "auto";
  return excerpt;
}

/** Say why the server has not searched. Returns whether the panel is open. */
export function searchFailed(text) {
  if (panel.open) summary.textContent = text;
  return panel.open;
}

function choose(item) {
  for (const each of list.querySelectorAll("[aria-current]")) each.removeAttribute("aria-current");
  item.firstElementChild.ariaCurrent = "true";
  if (NARROW.matches) panel.close();
  page.log.show(Number(item.dataset.found));
}

function search() {
  clearTimeout(timer);
  words = field.value.trim();
  if (!words) {
    list.replaceChildren();
    summary.textContent = "";
  } else if (!page.link?.ask({ type: "search", words, limit: MOST })) {
    summary.textContent = "Not searched: there is no connection.";
  }
}

/** Finds words that begin like one of these. */
function wordBegins(text) {
  const begins = wholeWords(text.split(/\s+/u).slice(0, 16));
  return begins && new RegExp(begins.source.replace(/\(\?!.*$/u, ""), begins.flags);
}

function close() {
  panel.close();
  (opener?.isConnected ? opener : document.getElementById("input")).focus();
}

document.getElementById("search-form").addEventListener("submit", (event) => {
  event.preventDefault();
  search();
});
field.addEventListener("input", () => {
  clearTimeout(timer);
  timer = setTimeout(search, PAUSE);
});
document.getElementById("search-close").addEventListener("click", close);
panel.addEventListener("keydown", (event) => {
  const buttons = [...list.querySelectorAll("li > button")];
  const at = buttons.indexOf(document.activeElement);
  if (event.key === "Escape") {
    close();
  } else if (event.key === "ArrowDown" && buttons.length) {
    buttons[Math.min(at + 1, buttons.length - 1)].focus();
  } else if (event.key === "ArrowUp" && at >= 0) {
    (buttons[at - 1] ?? field).focus();
  } else {
    return;
  }
  event.preventDefault();
  event.stopPropagation();
});
