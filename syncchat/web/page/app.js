// The start of the page: makes its parts, and connects them.

import { act, enter, go } from "./actions.js";
import { Address } from "./address.js";
import { Attention } from "./attention.js";
import { Composer } from "./composer.js";
import { hear } from "./events.js";
import { Link } from "./link.js";
import { Log } from "./log.js";
import { firstNick } from "./nick.js";
import { People } from "./people.js";
import { Rooms } from "./rooms.js";
import { showStatus } from "./status.js";
import { authorize, tokenKept, tokenOfAddress } from "./token.js";

const NARROW = matchMedia("(max-width: 40rem)");

const page = {
  link: null, // The connection; null: the user has no nick or token yet.
  known: [], // The names of the rooms, as the server last said.
  whispered: "", // The nick that sent the last private message.
  returning: false, // The connection was lost, and is not back yet.
  asked: new Set(), // Types of the user's requests, whose answers are to be shown.
};
page.address = new Address((room) => go(page, room));
page.people = new People();
page.log = new Log({
  ask: (before, limit) => page.link.ask({ type: "history", before, limit }),
  actions: {
    peopleMenu: (nick) => page.people.actionsFor(nick),
    quote: (message) => page.composer.quote(message),
    remove: (offset) => act(page, { type: "redact", offset }),
    mayRemove: () => page.link.welcome?.operator === true,
  },
});
page.rooms = new Rooms(page.address.base, {
  choose: (room) => {
    go(page, room);
    page.composer.focus();
  },
  report: (room, place) => page.link.welcome?.person && page.link.ask({ type: "seen", room, place }),
});
page.attention = new Attention({ room: () => page.rooms.current, looked: () => page.rooms.look() });
page.composer = new Composer({
  enter: (line) => enter(line, page),
  words: () => ({
    people: page.people.others(page.link?.called),
    rooms: [...new Set([...page.rooms.names, ...page.known])].sort(),
    known: page.known.length > 0,
  }),
  askRooms: () => page.link.ask({ type: "rooms" }),
});

async function begin() {
  document.getElementById("loading").remove();
  tokenOfAddress();
  await authorize(() => {});
  page.link = new Link(location.pathname, { nick: await firstNick(), token: tokenKept() });
  page.link.addEventListener("event", ({ detail }) => hear(detail, page));
  page.link.addEventListener("gap", () => page.log.line("alarm", "Some messages are missing here: the server no longer has them."));
  page.link.addEventListener("state", showState);
  page.link.addEventListener("refused", refused);
  page.link.open();
  setInterval(showState, 500);
  page.composer.focus();
}

function showState() {
  if (page.link.state === "waiting" && !page.returning && page.rooms.current !== null) {
    page.returning = true;
    page.log.line("alarm", "The connection to the server was lost. Reconnecting.");
  }
  showStatus(page);
}

async function refused() {
  const { link } = page;
  const before = tokenKept();
  await authorize(() => link.hold());
  if (tokenKept() !== before && link.state === "waiting") {
    link.token = tokenKept();
    link.open();
  }
}

addEventListener("beforeunload", (event) => {
  // Undelivered messages are lost with the page.
  if (page.link?.waiting.length) event.preventDefault();
});

// The list of people, and the keys for the rooms.

const people = document.getElementById("people"), who = document.getElementById("who");

addEventListener("keydown", (event) => {
  if (event.altKey && !event.ctrlKey && !event.metaKey && ["ArrowDown", "ArrowUp"].includes(event.key)) {
    event.preventDefault();
    go(page, page.rooms.next(event.key === "ArrowDown" ? 1 : -1, event.shiftKey));
    return;
  }
  if (event.key !== "Escape" || !people.classList.contains("open")) return;
  who.click();
  who.focus();
});
who.addEventListener("click", () => {
  const shown = people.classList.toggle(NARROW.matches ? "open" : "closed") === NARROW.matches;
  who.setAttribute("aria-expanded", String(shown));
});
who.setAttribute("aria-expanded", String(!NARROW.matches));

begin();
