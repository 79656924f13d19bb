// The page: the user's nick and token, the rooms, and everything around the messages.

import { COMMANDS, parse } from "./commands.js";
import { Composer } from "./composer.js";
import { ask, wrongNick } from "./dialog.js";
import { Link } from "./link.js";
import { Log } from "./log.js";
import { banText, missedText, moderatedText, topicText, when, whoisText } from "./notices.js";
import { Rooms } from "./rooms.js";
import { kept, keep } from "./storage.js";
import { element, nickOf, rich } from "./text.js";
import { authorize, isPersonal, tokenKept, tokenOfAddress } from "./token.js";

const NICK = "syncchat.nick";
// Messages of history to ask for on entering and each time, and those to ask for at most on entering,
// with messages around those that the user has missed.
const HISTORY = 50, CATCH_UP = 200, AROUND = 20;

// Milliseconds after which unacknowledged messages are counted in the state line.
const SLOW = 3000;
// Bytes that the nonce adds to an event, and the usual limit of a server for an event.
const ROOM_FOR_NONCE = 40, USUAL_LIMIT = 65_536;

const at = (id) => document.getElementById(id);
const people = at("people"), who = at("who");

const log = new Log((before) => link.ask({ type: "history", before, limit: HISTORY }));
const composer = new Composer({ enter, words, askRooms: () => link.ask({ type: "rooms" }) });
const rooms = new Rooms(location.pathname.replace(/[^/]*$/u, ""), {
  choose: (room) => {
    go(room);
    composer.focus();
  },
  report: (room, place) => link.welcome?.person && link.ask({ type: "seen", room, place }),
});
let link;
let names = new Map(); // nick -> when it last spoke or took this nick, in milliseconds since 1970; 0: unknown
let known = []; // The names of the rooms, as the server last said.
let whispered = "";
let unread = 0;
let announced = 0; // The number of members, as the server last said.
let returning = false; // The connection was lost, and is not back yet.
let byHistory = false; // Back or forward was pressed, and has changed the URL already.
const asked = new Set(); // Types of the user's requests, whose answers are to be shown.

// Start.

const WHO = "Choose a nick";

/** Ask for another nick, since the server refused the last one. */
async function askForNick(complaint) {
  link.nick = await ask(WHO, { complaint, wrong: wrongNick });
  asked.delete("nick");
  link.ask({ type: "nick", nick: link.nick });
}

async function begin() {
  at("loading").remove();
  tokenOfAddress();
  await authorize(() => {});
  // The server knows the name of somebody with a token of their own.
  const nick = isPersonal() ? "" : kept("local", NICK) ?? await ask(WHO, { wrong: wrongNick });
  link = new Link(location.pathname, { nick, token: tokenKept() });
  link.addEventListener("event", ({ detail }) => hear(detail));
  link.addEventListener("gap", () => log.line("alarm", "Some messages are missing here: the server no longer has them."));
  link.addEventListener("state", showState);
  link.addEventListener("refused", refused);
  link.open();
  setInterval(showState, 500);
  composer.focus();
}

async function refused() {
  const before = tokenKept();
  await authorize(() => link.hold());
  if (tokenKept() !== before && link.state === "waiting") {
    link.token = tokenKept();
    link.open();
  }
}

// Events from the server.

const HEARERS = {
  __proto__: null,
  welcome(event) {
    const before = rooms.current, { epoch } = rooms, here = event.room;
    const seen = rooms.enter(event);
    if (before === here && epoch !== event.epoch) log.anew();
    names = new Map(event.members.map((nick) => [nick, names.get(nick) ?? 0]));
    announced = event.members.length;
    if (before === null) {
      history.replaceState(null, "", link.path + location.search);
      if (event.greeting) log.line("reply", event.greeting);
      if (event.motd) log.line("reply", event.motd);
    } else if (before !== here) {
      log.clear();
      if (!byHistory) history.pushState(null, "", link.path);
      byHistory = false;
      log.line("reply", `You are now in ${here}.`);
    } else if (returning) {
      log.line("reply", "Reconnected.");
    }
    log.unanswered();
    if (before !== here) enterLog(event.offset, seen);
    else if (log.empty) enterLog(event.offset, null);
    // A new connection watches nothing yet; otherwise the room that the user has left is missing.
    const missing = rooms.toWatch(before === here || before === null || returning ? null : before);
    if (missing.length) link.ask({ type: "watch", rooms: missing });
    if (before !== null && before !== here && !rooms.names.includes(before)) link.ask({ type: "unwatch", rooms: [before] });
    returning = false;
    asked.delete("quit");
    at("room").textContent = here;
    showTopic(event.topic);
    showReadOnly(event.read_only);
    showTitle();
    if (event.nick === link.nick) keepNick(event.nick);
    showPeople();
  },
  message(event) {
    heardOf(event.nick);
    log.message(event, link.called);
    rooms.heard(event.offset);
    if (looking()) rooms.look();
    if (event.nick !== link.called && event.kind !== "redaction") count();
  },
  activity(event) {
    if (!rooms.note(event) || !event.mention) return;
    log.elsewhere(event.room, event.mention, link.called);
    count();
  },
  joined: (event) => came(event, "joined"),
  left: (event) => came(event, "left"),
  renamed(event) {
    names.delete(event.old);
    heardOf(event.nick, true);
    if (event.nick === link.called) keepNick(event.nick);
    log.line("notice", `${event.old} is now known as ${event.nick}.`);
    showPeople();
  },
  away: (event) => log.line("notice", `${event.nick} is away${event.reason ? `: ${event.reason}` : "."}`),
  back: (event) => log.line("notice", `${event.nick} is back.`),
  names(event) {
    names = new Map(event.names.map((nick) => [nick, names.get(nick) ?? 0]));
    announced = event.names.length;
    showPeople();
    if (asked.delete("names")) log.line("reply", `${event.names.length} connected: ${event.names.join(", ")}`);
  },
  rooms(event) {
    known = event.rooms.map(({ room }) => room).sort();
    composer.offerRooms();
    if (asked.delete("rooms")) {
      log.line("reply", `Rooms: ${event.rooms.map(({ room, connected }) => `${room} (${connected})`).join(", ")}`);
    }
  },
  whois: (event) => log.line("reply", whoisText(event)),
  done: (event) => log.line("reply", event.text),
  moderated: (event) => log.line("notice", moderatedText(event)),
  topic(event) {
    showTopic(event.text);
    log.line("notice", topicText(event));
  },
  motd: (event) => log.line("reply", event.text || "There is no message of the day."),
  read_only(event) {
    showReadOnly(event.on && !link.welcome.operator);
    log.line("notice", event.on ? `${event.by} made the room read-only.` : `${event.by} lets everybody speak again.`);
  },
  bans(event) {
    if (!event.bans.length) log.line("reply", "There are no bans.");
    for (const ban of event.bans) log.line("reply", banText(ban));
  },
  private(event) {
    if (event.nick !== link.called) {
      whispered = event.nick;
      count();
    }
    log.private(event, link.called);
  },
  history(event) {
    if (event.command === "history") {
      log.past(event.messages, event.complete, link.called);
      if (looking()) rooms.look();
      return;
    }
    if (!event.messages.length) log.line("reply", "No messages found.");
    for (const message of event.messages) log.found(message, when(message.time));
  },
  ack(event) {
    if (event.said) {
      const { said } = event;
      rooms.heard(event.offset);
      if (looking()) rooms.look();
      const kind = said.type === "action" ? "action" : "message";
      log.message({ offset: event.offset, time: Date.now() / 1000, nick: link.called, text: said.text, kind }, link.called);
    }
  },
  error(event) {
    if (event.command === "history") log.unanswered();
    if (event.command === "nick" && !asked.delete("nick")) {
      // The answer to a nick from the first dialog or the storage, not to a /nick.
      if (event.code !== "nick_taken") {
        askForNick(event.text);
        return;
      }
      keepNick(link.nick);
    }
    log.line("alarm", event.text, ...(event.said ? [` (${event.said.text})`] : []));
  },
};

function hear(event) {
  HEARERS[event.type]?.(event);
}

function came(event, what) {
  const all = [event.nick, ...(event.others ?? [])];
  for (const nick of all) {
    if (what === "joined") names.set(nick, names.get(nick) ?? 0);
    else names.delete(nick);
  }
  announced = event.connected;
  const shown = all.length > 10 ? `${all.slice(0, 10).join(", ")} and ${all.length - 10} others` : all.join(", ");
  log.line("notice", `${shown} ${what}.`);
  showPeople();
}

/** Remember the nick; that of a person belongs to their token. */
function keepNick(nick) {
  if (!isPersonal()) keep("local", NICK, nick);
}

function heardOf(nick, isNew = false) {
  if (isNew || names.has(nick)) names.set(nick, Date.now());
}

/** Ask for the last messages of the room, and mark those behind the offset that the user has seen. */
function enterLog(offset, seen) {
  const missed = seen === null ? 0 : offset - seen;
  if (missed > 0) {
    const limit = Math.min(CATCH_UP, Math.max(HISTORY, missed + AROUND));
    log.line("reply", `${missedText(missed)}.${missed > limit ? " Scroll up for those before these." : ""}`);
    log.mark(seen, `Last read: ${missedText(missed)}`);
    link.ask({ type: "history", before: offset + 1, limit });
  } else {
    link.ask({ type: "history", before: offset + 1, limit: HISTORY });
  }
}

// State, members and title.

function showState() {
  const state = at("state");
  const seconds = Math.max(0, Math.ceil((link.retryAt - Date.now()) / 1000));
  const texts = {
    connecting: returning ? "reconnecting" : "connecting",
    connected: `${link.called}`,
    waiting: "reconnecting",
    over: asked.has("quit") ? "You have left. Reload the page to come back." : `The server closed the connection${link.reason ? `: ${link.reason}` : ""}. Reload the page to reconnect.`,
  };
  if (link.state === "waiting" && !returning && rooms.current !== null) {
    returning = true;
    log.line("alarm", "The connection to the server was lost. Reconnecting.");
  }
  const unsent = link.state !== "connected" || link.waited > SLOW ? link.waiting.length : 0;
  const text = `${texts[link.state]}${unsent ? `, ${unsent} unsent` : ""}`;
  // Hide the countdown from screen readers: it changes every second.
  const countdown = link.state === "waiting" && seconds ? `, in ${seconds} s` : "";
  if (state.firstChild?.data !== text) {
    const seconds = element("span");
    seconds.ariaHidden = "true";
    state.replaceChildren(text, seconds);
  }
  state.lastChild.textContent = countdown;
  state.classList.toggle("alarm", link.state === "waiting" || link.state === "over");
  const waiting = link.waiting.slice(-5).map((event) => event.text ?? `/join ${event.room}`);
  if (waiting.join("\n") !== showState.waiting) {
    showState.waiting = waiting.join("\n");
    const follow = log.atEnd;
    at("waiting").replaceChildren(...waiting.map((each) => element("li", "", each)));
    if (follow) log.toEnd();
  }
}

function showPeople() {
  who.textContent = `${announced} here`;
  const sorted = [...names.keys()].sort((one, two) => one.localeCompare(two));
  at("names").replaceChildren(...sorted.slice(0, 500).map((nick) => element("li", "", nickOf(nick))));
}

function showTopic(topic = "") {
  at("topic").replaceChildren(...rich(topic, ""));
  at("topic").title = topic;
}

function showReadOnly(on) {
  composer.hint = on ? "You cannot speak in this room" : "Message, or /help";
}

/** Whether the user can see the page now. */
function looking() {
  return !document.hidden && document.hasFocus();
}

function count() {
  if (!looking()) unread += 1;
  showTitle();
}

function showTitle() {
  document.title = `${unread ? `(${unread}) ` : ""}${rooms.current ?? "syncchat"}`;
}

function seen() {
  unread = 0;
  rooms.look();
  showTitle();
}

/** Go to another room, of which the user chooses the name. */
function go(room) {
  if (room && link && room !== link.room) link.post({ type: "join", room });
}

addEventListener("focus", seen);
document.addEventListener("visibilitychange", () => document.hidden || seen());
addEventListener("popstate", () => {
  const room = decodeURIComponent(location.pathname.split("/").pop()) || "lobby";
  if (!link || room === rooms.current) return;
  byHistory = true;
  link.post({ type: "join", room });
});
addEventListener("beforeunload", (event) => {
  // Undelivered messages are lost with the page.
  if (link?.waiting.length) event.preventDefault();
});
addEventListener("keydown", (event) => {
  if (event.altKey && !event.ctrlKey && !event.metaKey && ["ArrowDown", "ArrowUp"].includes(event.key)) {
    event.preventDefault();
    go(rooms.next(event.key === "ArrowDown" ? 1 : -1, event.shiftKey));
    return;
  }
  if (event.key !== "Escape" || !people.classList.contains("open")) return;
  who.click();
  who.focus();
});
who.addEventListener("click", () => {
  const narrow = matchMedia("(max-width: 40rem)").matches;
  const shown = people.classList.toggle(narrow ? "open" : "closed") === narrow;
  who.setAttribute("aria-expanded", String(shown));
});
who.setAttribute("aria-expanded", String(!matchMedia("(max-width: 40rem)").matches));

// Input.

/** Act on the typed line. False: the line stays in the input. */
function enter(line) {
  const event = parse(line);
  if (event.wrong) {
    log.line("alarm", event.wrong);
    return false;
  }
  if (event.local === "help") {
    for (const [name, [usage, help]] of Object.entries(COMMANDS)) log.line("reply", `/${name} ${usage}  ${help}`);
    return true;
  }
  if (event.local === "history") {
    log.toStart();
    return true;
  }
  if (event.local === "reconnect") {
    link.open();
    return true;
  }
  if (event.local === "part") return part(event.room.replace(/^#+/u, "").toLowerCase() || rooms.current);
  if (event.local === "reply") {
    if (whispered) return askServer({ type: "private", to: whispered, text: event.text });
    log.line("alarm", "No private message to reply to.");
    return false;
  }
  const size = new TextEncoder().encode(JSON.stringify(event)).length + ROOM_FOR_NONCE;
  const limit = link.welcome?.limits.message ?? USUAL_LIMIT;
  if (size > limit) {
    // The server would close the connection.
    log.line("alarm", `Not sent: it exceeds the limit of ${limit} bytes for a message.`);
    return false;
  }
  if (link.state === "over") {
    log.line("alarm", "Not sent: the server closed the connection.");
    return false;
  }
  if (["say", "action", "join"].includes(event.type)) {
    link.post(event);
    log.toEnd();
    return true;
  }
  if (event.type === "nick") link.forgetNick();
  asked.add(event.type);
  const sent = askServer(event);
  if (!sent) asked.delete(event.type);
  return sent;
}

function askServer(event) {
  if (link.ask(event)) return true;
  log.line("alarm", "Not sent: there is no connection.");
  return false;
}

/** Stop following a room. */
function part(room) {
  if (!rooms.names.includes(room)) {
    log.line("alarm", `You do not follow ${room}.`);
    return false;
  }
  const back = rooms.part(room);
  if (room !== rooms.current) {
    link.ask({ type: "unwatch", rooms: [room] });
  } else if (back) {
    go(back);
  } else {
    log.line("alarm", "You follow no other room. /join enters one, /quit leaves the chat.");
    return false;
  }
  return true;
}

/** The words that complete what is typed. */
function words() {
  const others = [...names].filter(([nick]) => nick !== link.called);
  others.sort(([one, atOne], [two, atTwo]) => atTwo - atOne || one.localeCompare(two));
  const all = [...new Set([...rooms.names, ...known])].sort();
  return { people: others.map(([nick]) => nick), rooms: all, known: known.length > 0 };
}

begin();
