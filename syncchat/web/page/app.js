// The page: the user's nick and token, the input, and everything around the messages.

import { COMMANDS, completions, parse } from "./commands.js";
import { Link } from "./link.js";
import { Log } from "./log.js";
import { kept, keep } from "./storage.js";
import { element, nickOf } from "./text.js";

const NICK = "syncchat.nick", TOKEN = "syncchat.token";
const TOKEN_WANTED = "The server requires a token.";
const PRINTABLE = /^[\x21-\x7e]+$/u; // What an HTTP header can carry.
// Messages of history to ask for, at first and each time.
const HISTORY = 50;

// Milliseconds after which unacknowledged messages are counted in the state line.
const SLOW = 3000;
// Bytes that the nonce adds to an event, and the usual limit of a server for an event.
const ROOM_FOR_NONCE = 40, USUAL_LIMIT = 65_536;

const at = (id) => document.getElementById(id);
const input = at("input"), candidates = at("candidates"), people = at("people"), who = at("who");

const log = new Log((before) => link.ask({ type: "history", before, limit: HISTORY }));
let link;
let names = new Map(); // nick -> when it last spoke or took this nick, in milliseconds since 1970; 0: unknown
let rooms = [];
let whispered = "";
let unread = 0;
let announced = 0; // The number of members, as the server last said.
let choosing = null; // The completions on offer; null: none.
let returning = false; // The connection was lost, and is not back yet.
let authorizing = null; // The promise of authorize() while it runs.
let byHistory = false; // Back or forward was pressed, and has changed the URL already.
let tabbed = false; // Tab was pressed after "/join " when no room was known.
const asked = new Set(); // Types of the user's requests, whose answers are to be shown.

// Start.

/** Move the token from the URL to the session storage, so that it does not stay in the URL. */
function tokenOfAddress() {
  const url = new URL(location.href);
  const token = url.searchParams.get("token");
  if (token === null) return;
  keep("session", TOKEN, token);
  url.searchParams.delete("token");
  history.replaceState(null, "", url);
}

/** Ask the user a question, until `wrong(answer)` returns no complaint. */
function ask(question, { kind = "text", complaint = "", wrong = () => "" } = {}) {
  const dialog = at("ask"), field = at("answer");
  at("question").textContent = question;
  at("complaint").textContent = complaint;
  field.type = kind;
  field.value = "";
  return new Promise((resolve) => {
    const form = dialog.querySelector("form");
    form.onsubmit = (event) => {
      at("complaint").textContent = wrong(field.value.trim());
      if (at("complaint").textContent) event.preventDefault();
    };
    dialog.oncancel = (event) => event.preventDefault();
    dialog.onclose = () => {
      // A browser closes a dialog at the second Escape, even if "cancel" is prevented.
      if (dialog.returnValue !== "agree" || wrong(field.value.trim())) dialog.showModal();
      else resolve(field.value.trim());
    };
    dialog.returnValue = "";
    dialog.showModal();
    field.select();
  });
}

const WHO = "Choose a nick";

/** Ask for another nick, since the server refused the last one. */
async function askForNick(complaint) {
  link.nick = await ask(WHO, { complaint, wrong: wrongNick });
  asked.delete("nick");
  link.ask({ type: "nick", nick: link.nick });
}

const wrongNick = (nick) => {
  if (!nick) return "A nick must not be empty.";
  if ([...nick].length > 32) return "A nick must have at most 32 characters.";
  return /[\s:,]/u.test(nick) ? "A nick must be one word without colons or commas." : "";
};

async function begin() {
  at("loading").remove();
  tokenOfAddress();
  await authorize();
  let nick = kept("local", NICK);
  if (nick === null) {
    nick = await ask(WHO, { wrong: wrongNick });
  }
  link = new Link(location.pathname, { nick, token: kept("session", TOKEN) ?? "", history: HISTORY });
  link.addEventListener("event", ({ detail }) => hear(detail));
  link.addEventListener("gap", () => log.line("alarm", "Some messages are missing here: the server no longer has them."));
  link.addEventListener("state", showState);
  link.addEventListener("refused", refused);
  link.open();
  setInterval(showState, 500);
  input.focus();
}

/** Resolve when the server accepts the token, or cannot be reached; asks the user for a token. */
function authorize() {
  authorizing ??= askForToken().finally(() => { authorizing = null; });
  return authorizing;
}

async function askForToken() {
  let complaint = "";
  for (;;) {
    const token = kept("session", TOKEN);
    if (token && !PRINTABLE.test(token)) {
      complaint = "A token must consist of ASCII letters, digits and signs.";
    } else {
      const headers = token ? { Authorization: `Bearer ${token}` } : {};
      let answer;
      try {
        answer = await fetch("-/auth", { headers, cache: "no-store" });
      } catch {
        return; // No server: the link shows that, and retries.
      }
      if (answer.status !== 401) return;
      if (token) complaint = "The server does not accept this token.";
    }
    link?.hold();
    keep("session", TOKEN, await ask(TOKEN_WANTED, { kind: "password", complaint }));
  }
}

async function refused() {
  const before = kept("session", TOKEN);
  await authorize();
  if (kept("session", TOKEN) !== before && link.state === "waiting") {
    link.token = kept("session", TOKEN);
    link.open();
  }
}

// Events from the server.

const HEARERS = {
  __proto__: null,
  welcome(event) {
    const here = link.room;
    if (hear.room === here && hear.epoch !== event.epoch) log.anew();
    hear.epoch = event.epoch;
    at("room").textContent = here;
    names = new Map(event.members.map((nick) => [nick, names.get(nick) ?? 0]));
    announced = event.members.length;
    if (hear.room !== undefined && hear.room !== here) {
      log.clear();
      if (!byHistory) history.pushState(null, "", link.path);
      byHistory = false;
      log.line("reply", `You are now in ${here}.`);
      link.ask({ type: "history", before: event.offset + 1, limit: HISTORY });
    } else if (hear.room === undefined) {
      history.replaceState(null, "", link.path + location.search);
      if (event.greeting) log.line("reply", event.greeting);
    } else if (returning) {
      log.line("reply", "Reconnected.");
    }
    hear.room = here;
    returning = false;
    showTitle();
    log.unanswered();
    if (event.nick === link.nick) keep("local", NICK, event.nick);
    showPeople();
  },
  message(event) {
    heardOf(event.nick);
    log.message(event, link.called);
    // Messages of the history are not unread.
    if (event.nick !== link.called && event.offset > link.welcome.offset) count();
  },
  joined: (event) => came(event, "joined"),
  left: (event) => came(event, "left"),
  renamed(event) {
    names.delete(event.old);
    heardOf(event.nick, true);
    if (event.nick === link.called) keep("local", NICK, event.nick);
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
    rooms = event.rooms.map(({ room }) => room).sort();
    if (tabbed && input.value.startsWith("/join ")) offer(true);
    tabbed = false;
    if (asked.delete("rooms")) {
      log.line("reply", `Rooms: ${event.rooms.map(({ room, connected }) => `${room} (${connected})`).join(", ")}`);
    }
  },
  whois(event) {
    const spoke = event.spoke ? `last spoke ${when(event.spoke)}` : "has not spoken yet";
    const away = event.away === undefined ? "" : ` Away${event.away ? `: ${event.away}` : "."}`;
    log.line("reply", `${event.nick} has been here since ${when(event.since)} and ${spoke}.${away}`);
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
      return;
    }
    if (!event.messages.length) log.line("reply", "No messages found.");
    for (const message of event.messages) {
      log.line("reply", `${when(message.time)} `, nickOf(message.nick), `: ${message.text}`);
    }
  },
  ack(event) {
    if (event.said) {
      const { said } = event;
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
      keep("local", NICK, link.nick);
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

function heardOf(nick, isNew = false) {
  if (isNew || names.has(nick)) names.set(nick, Date.now());
}

function when(seconds) {
  return new Date(seconds * 1000).toLocaleString([], { dateStyle: "short", timeStyle: "short" });
}

// State, members and title.

function showState() {
  const state = at("state");
  const seconds = Math.max(0, Math.ceil((link.retryAt - Date.now()) / 1000));
  const texts = {
    connecting: returning ? "reconnecting" : "connecting",
    connected: `${link.called}`,
    waiting: "reconnecting",
    over: `The server closed the connection${link.reason ? `: ${link.reason}` : ""}. Reload the page to reconnect.`,
  };
  if (link.state === "waiting" && !returning && hear.room !== undefined) {
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

function count() {
  if (document.hidden || !document.hasFocus()) unread += 1;
  showTitle();
}

function showTitle() {
  document.title = `${unread ? `(${unread}) ` : ""}${hear.room ?? "syncchat"}`;
}

function seen() {
  unread = 0;
  showTitle();
}

addEventListener("focus", seen);
document.addEventListener("visibilitychange", () => document.hidden || seen());
addEventListener("popstate", () => {
  const room = decodeURIComponent(location.pathname.split("/").pop()) || "lobby";
  if (!link || room === hear.room) return;
  byHistory = true;
  link.post({ type: "join", room });
});
addEventListener("beforeunload", (event) => {
  // Undelivered messages are lost with the page.
  if (link?.waiting.length) event.preventDefault();
});
addEventListener("keydown", (event) => {
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

at("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const line = input.value.trimEnd();
  closeCandidates();
  if (!line.trim()) return;
  if (enter(line)) {
    input.value = "";
    fit();
  }
  input.focus();
});

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

input.addEventListener("keydown", (event) => {
  if (event.isComposing) return;
  if (event.key === "Enter" && !event.shiftKey) {
    event.preventDefault();
    // Enter takes a completion only if the user chose it by Tab or an arrow key.
    if (choosing?.byHand) choose(choosing.at);
    else at("composer").requestSubmit();
  } else if (event.key === "Tab" && !event.shiftKey && input.value) {
    if (offer(true) || input.value.startsWith("/")) event.preventDefault();
  } else if (choosing && ["ArrowDown", "ArrowUp"].includes(event.key)) {
    event.preventDefault();
    move(event.key === "ArrowDown" ? 1 : -1);
  } else if (event.key === "Escape" && choosing) {
    event.preventDefault();
    closeCandidates();
  }
});
input.addEventListener("input", () => {
  fit();
  if (input.value === "/join ") link.ask({ type: "rooms" });
  if (input.value.startsWith("/") && !input.value.includes(" ")) offer(false);
  else closeCandidates();
});

function fit() {
  input.style.setProperty("height", "auto");
  input.style.setProperty("height", `${input.scrollHeight + 2}px`);
}

/** Offer completions. On Tab, insert the only one at once. Returns whether there are some. */
function offer(byTab) {
  if (choosing && byTab) {
    choose(choosing.at);
    return true;
  }
  const upTo = input.value.slice(0, input.selectionStart);
  if (byTab && !rooms.length && upTo.startsWith("/join ")) tabbed = link.ask({ type: "rooms" });
  const others = [...names].filter(([nick]) => nick !== link.called);
  others.sort(([one, atOne], [two, atTwo]) => atTwo - atOne || one.localeCompare(two));
  const { from, choices } = completions(upTo, others.map(([nick]) => nick), rooms);
  choosing = choices.length ? { from, choices: choices.slice(0, 50), at: 0, byHand: byTab } : null;
  if (byTab && choices.length === 1) {
    choose(0);
    return true;
  }
  showCandidates();
  return choices.length > 0;
}

function choose(index) {
  const { from, choices } = choosing;
  const rest = input.value.slice(input.selectionStart);
  const before = input.value.slice(0, from) + choices[index].put;
  input.value = before + rest;
  input.setSelectionRange(before.length, before.length);
  closeCandidates();
  fit();
}

function move(by) {
  // The first ArrowDown only chooses the candidate that is marked already.
  if (choosing.byHand || by < 0) choosing.at = (choosing.at + by + choosing.choices.length) % choosing.choices.length;
  choosing.byHand = true;
  showCandidates();
}

function showCandidates() {
  candidates.hidden = !choosing;
  input.removeAttribute("aria-activedescendant");
  if (!choosing) return;
  candidates.replaceChildren(...choosing.choices.map(({ shown, hint }, index) => {
    const item = element("li", "", shown, ...(hint ? [element("small", "", hint)] : []));
    item.id = `candidate-${index}`;
    item.role = "option";
    item.ariaSelected = String(index === choosing.at);
    item.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      choose(index);
    });
    return item;
  }));
  input.setAttribute("aria-activedescendant", `candidate-${choosing.at}`);
  candidates.children[choosing.at].scrollIntoView({ block: "nearest" });
}

function closeCandidates() {
  choosing = null;
  showCandidates();
}

begin();
