// The start of the page: makes its parts, and connects them.

import { enter, go, limitOf, openMessage, sizeOf } from "./actions.js";
import { Address } from "./address.js";
import { Attention } from "./attention.js";
import { Composer } from "./composer.js";
import { hear } from "./events.js";
import { makeLists, wireFrame } from "./frame.js";
import { Link } from "./link.js";
import { Log } from "./log.js";
import { introduce, refused } from "./joining.js";
import { Notifier } from "./notifier.js";
import { MessageActions } from "./message_actions.js";
import "./theme.js";
import { showStatus } from "./status.js";
import { nickOf } from "./text.js";
import { browserSecret, tokenKept, tokenOfAddress } from "./token.js";

const page = {
  link: null, // The connection; null: the user has no nick or token yet.
  known: [], // The names of the rooms, as the server last said,
  crowds: new Map(), // and how many people are in each.
  whispers: [], // Private messages of the user without an answer: {to, text, line}.
  whispered: "", // The nick that sent the last private message.
  returning: false, // The connection was lost, and is not back yet.
  asked: new Map(), // Type of a request of the user -> the typed line. Its answer is to be shown.
  refusal: "", // The last error of the server that did not let the page in.
};
page.address = new Address({
  heading: () => page.link?.heading ?? null,
  go: (room) => go(page, room),
  show: (offset) => page.log.show(offset),
});
page.log = new Log({ ask: (request) => page.link?.ask(request) ?? false, own: () => page.link?.called ?? "" });
makeLists(page);
page.notifier = new Notifier((room, offset) => openMessage(page, room, offset));
page.attention = new Attention({
  room: () => page.rooms.current,
  looked: () => page.rooms.look(),
  notify: (message) => page.notifier.notify(message),
});
page.composer = new Composer({
  base: page.address.base,
  complain: (text) => page.log.line("alarm", text),
  limit: () => limitOf(page),
  size: (text) => sizeOf({ type: "say", text }),
  enter: (line) => enter(line, page),
  words: {
    get people() {
      return page.people.others(page.link?.called);
    },
    get speakers() {
      return page.people.speakers(page.link?.called);
    },
    get rooms() {
      return [...new Set([...page.rooms.names, ...page.known])].sort();
    },
    get known() {
      return page.known.length > 0;
    },
  },
  askRooms: () => page.link?.ask({ type: "rooms" }) ?? false,
});

async function begin() {
  document.getElementById("loading").remove();
  tokenOfAddress();
  const nick = await introduce();
  page.link = new Link(location.pathname, { nick, token: tokenKept(), browser: browserSecret() });
  page.link.addEventListener("event", ({ detail }) => hear(detail, page));
  page.link.addEventListener("gap", ({ detail: { anew } }) => page.log.gap(anew));
  page.link.addEventListener("state", showState);
  page.link.addEventListener("refused", () => refused(page));
  page.link.open();
  setInterval(showState, 500);
  page.composer.focus();
}

function showState() {
  if (page.link.state === "waiting" && !page.returning && page.rooms.current !== null) {
    page.returning = true;
    page.log.line("alarm", "The connection to the server was lost. Reconnecting.");
    // They are sent once: sent again, they might come twice.
    for (const { to, text } of page.whispers) page.log.line("alarm", "Perhaps not delivered to ", nickOf(to), `: ${text}`);
    const { line } = page.whispers.at(-1) ?? {};
    if (line) page.composer.restore(line);
    page.whispers = [];
  }
  if (page.link.state !== "connected") page.people.offline();
  showStatus(page);
}

addEventListener("beforeunload", (event) => {
  // Undelivered messages are lost with the page.
  if (page.link?.waiting.length) event.preventDefault();
});

wireFrame(page);
new MessageActions(page);
begin();
