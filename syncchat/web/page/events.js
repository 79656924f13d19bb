// What the page does with each event of the server.

import { mentions } from "./attention.js";
import { askForNick } from "./joining.js";
import { keepNick } from "./nick.js";
import { banText, missedText, moderatedText, topicText, whoisText } from "./notices.js";
import { liftButton } from "./operators.js";
import { keepPrivate, keptPrivate } from "./private.js";
import { searchFailed, showFound } from "./search.js";
import { ignore, isIgnored, isSame } from "./settings.js";
import { refreshSwitcher } from "./switcher.js";
import { nickOf, rich } from "./text.js";

// Messages of history to ask for on entering, and at most, with messages around those that the user
// has missed.
const HISTORY = 50, CATCH_UP = 200, AROUND = 20;

// The type of the request that an event answers, if it is another one.
const ANSWERED = { __proto__: null, renamed: "nick", welcome: "join" };

const HEARERS = {
  __proto__: null,
  welcome(event, page) {
    const { link, log, rooms } = page;
    const before = rooms.current, { epoch } = rooms, here = event.room;
    const seen = rooms.enter(event);
    if (before === here && epoch !== event.epoch) log.anew();
    page.people.set(event.members);
    page.people.note(event.nick, { operator: event.operator === true });
    if (before === null) {
      if (event.greeting) log.line("reply", event.greeting);
      if (event.motd) log.line("reply", event.motd);
    } else if (before !== here) {
      log.clear();
      log.line("reply", `You are now in ${here}.`);
    } else if (page.returning) {
      log.line("reply", "Reconnected.");
    }
    if (before !== here) log.restore(keptPrivate(page.address.base, event.person));
    log.unanswered();
    if (before !== here) enterLog(page, event.offset, seen);
    else if (log.empty) enterLog(page, event.offset, null);
    // A new connection watches nothing yet; otherwise the room that the user has left is missing.
    const missing = rooms.toWatch(before === here || before === null || page.returning ? null : before);
    if (missing.length) link.ask({ type: "watch", rooms: missing });
    if (before !== null && before !== here && !rooms.names.includes(before)) link.ask({ type: "unwatch", rooms: [before] });
    link.ask({ type: "names" }); // It tells who is away.
    page.returning = false;
    page.asked.delete("quit");
    Object.assign(document.getElementById("room"), { textContent: here, className: "entered" });
    page.composer.moveTo(here);
    page.composer.silent = event.read_only === true;
    showTopic(event.topic);
    page.attention.show();
    if (before !== here) page.address.entered(link.path, before === null);
    page.refusal = "";
    if (event.nick === link.nick) keepNick(event.nick);
  },
  message(event, page) {
    page.people.heard(event.nick);
    page.log.message(event);
    page.rooms.heard(event.offset);
    if (page.attention.looking) page.rooms.look();
    if (event.nick === page.link.called || event.kind === "redaction" || isIgnored(event.nick)) return;
    page.attention.count(mentions(event.text, page.link.called) ? { ...event, room: page.rooms.current } : null);
  },
  activity(event, page) {
    const mention = event.mention && !isIgnored(event.mention.nick) ? event.mention : undefined;
    if (!page.rooms.note({ ...event, mention }) || !mention) return;
    page.log.elsewhere(event.room, mention);
    page.attention.count({ ...mention, room: event.room });
  },
  joined(event, page) {
    page.people.came(everybodyIn(event), event.connected);
    page.log.passed(everybodyIn(event), true);
  },
  left(event, page) {
    page.people.left(everybodyIn(event), event.connected);
    page.log.passed(everybodyIn(event), false);
  },
  renamed(event, page) {
    page.people.renamed(event.old, event.nick);
    if (event.nick === page.link.called) keepNick(event.nick);
    if (isSame(page.composer.partner, event.old)) page.composer.partner = event.nick;
    if (isSame(page.whispered, event.old)) page.whispered = event.nick;
    if (isIgnored(event.old)) {
      page.log.renamed(event.old, event.nick);
      ignore(event.old, false);
      ignore(event.nick, true);
    }
    page.log.line("notice", nickOf(event.old), " is now known as ", nickOf(event.nick), ".");
  },
  away(event, page) {
    page.people.note(event.nick, { away: event.reason ?? "" });
    page.log.line("notice", nickOf(event.nick), ` is away${event.reason ? `: ${event.reason}` : "."}`);
  },
  back(event, page) {
    page.people.note(event.nick, { away: null });
    page.log.line("notice", nickOf(event.nick), " is back.");
  },
  names(event, page) {
    page.people.set(event.names, event.away);
    if (page.asked.delete("names")) page.log.line("reply", `${event.names.length} connected: `, ...event.names.flatMap((nick, at) => [at ? ", " : "", nickOf(nick)]));
  },
  rooms(event, page) {
    page.known = event.rooms.map(({ room }) => room).sort();
    page.crowds = new Map(event.rooms.map(({ room, connected }) => [room, connected]));
    page.composer.offerRooms();
    refreshSwitcher();
    if (page.asked.delete("rooms")) {
      page.log.line("reply", `Rooms: ${event.rooms.map(({ room, connected }) => `${room} (${connected})`).join(", ")}`);
    }
  },
  whois(event, page) {
    page.people.note(event.nick, { operator: event.operator === true, away: event.away ?? null });
    page.log.line("reply", whoisText(event));
  },
  done: (event, page) => page.log.line("reply", event.text),
  moderated(event, page) {
    if (["op", "deop"].includes(event.action)) page.people.note(event.nick, { operator: event.action === "op" });
    page.log.line("notice", ...moderatedText(event));
  },
  topic(event, page) {
    showTopic(event.text);
    page.log.line("notice", ...topicText(event));
  },
  motd: (event, page) => page.log.line("reply", event.text || "There is no message of the day."),
  read_only(event, page) {
    page.composer.silent = event.on && !page.link.welcome.operator;
    page.log.line("notice", nickOf(event.by), event.on ? " made the room read-only." : " lets everybody speak again.");
  },
  bans(event, page) {
    if (!event.bans.length) page.log.line("reply", "There are no bans.");
    for (const ban of event.bans) page.log.line("reply", ...banText(ban), " ", liftButton(page, ban.target));
  },
  private(event, page) {
    if (event.nick !== page.link.called && !isIgnored(event.nick)) {
      page.whispered = event.nick;
      page.attention.count({ nick: event.nick, text: event.text, time: event.time });
    }
    keepPrivate(page.address.base, page.link.welcome.person, event);
    if (event.nick === page.link.called) page.whispers.shift();
    page.log.private(event);
  },
  history(event, page) {
    for (const { nick, time } of event.messages) page.people.heard(nick, time * 1000);
    if (event.command === "history") {
      page.log.past(event.messages, event.complete);
      if (page.attention.looking) page.rooms.look();
      return;
    }
    showFound(event);
  },
  ack(event, page) {
    if (!event.said) return;
    const { type, text } = event.said;
    page.rooms.heard(event.offset);
    if (page.attention.looking) page.rooms.look();
    const kind = type === "action" ? "action" : "message";
    const nick = page.link.called;
    page.log.message({ offset: event.offset, time: Date.now() / 1000, nick, text, kind });
  },
  error(event, page) {
    // The page reports places by itself, and the next report replaces one that failed.
    if (event.command === "seen") return;
    if (event.command === "history") page.log.unanswered(false);
    if (event.command === "private") page.whispers.shift();
    if (event.command === "search" && searchFailed(event.text)) return;
    const line = event.said ? typed(event.said) : page.asked.get(event.command);
    if (event.command === "nick" && !page.asked.delete("nick")) {
      // The answer to a nick from the first dialog or the storage, not to a /nick.
      askForNick(page, event.text);
      return;
    }
    if (event.command === "join") page.address.stayed(page.link.path);
    if (page.link.state !== "connected") {
      // The server does not let the page in, and says so at each attempt.
      if (page.refusal === event.text) return;
      page.refusal = event.text;
    }
    page.log.line("alarm", event.text, ...(event.said?.text ? [` (${event.said.text})`] : []));
    if (line) page.composer.restore(line);
  },
};

/** Act on an event of the server. `page` has the parts of the page (app.js). */
export function hear(event, page) {
  HEARERS[event.type]?.(event, page);
  // The request has its answer, so its line is not to be put back.
  page.asked.delete(event.command ?? event.action ?? ANSWERED[event.type] ?? event.type);
}

/** Ask for the last messages of the room, and mark those behind the offset that the user has seen. */
function enterLog({ log }, offset, seen) {
  const missed = seen === null ? 0 : offset - seen;
  if (missed > 0) {
    const limit = Math.min(CATCH_UP, Math.max(HISTORY, missed + AROUND));
    log.line("reply", `${missedText(missed)}.${missed > limit ? " Scroll up for those before these." : ""}`);
    log.mark(seen, `Last read: ${missedText(missed)}`);
    log.enter(offset, limit);
  } else {
    log.enter(offset, HISTORY);
  }
}

function everybodyIn(event) {
  return [event.nick, ...(event.others ?? [])];
}

function showTopic(topic = "") {
  const shown = document.getElementById("topic");
  shown.replaceChildren(...rich(topic));
  shown.title = topic;
}

/** The line that has said this. */
function typed({ type, text }) {
  if (type === "action") return `/me ${text}`;
  return text.startsWith("/") ? `/${text}` : text;
}
