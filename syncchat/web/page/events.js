// What the page does with each event of the server.

import { askForNick, keepNick } from "./nick.js";
import { banText, missedText, moderatedText, topicText, whoisText } from "./notices.js";
import { showFound } from "./search.js";
import { nickOf, rich } from "./text.js";

// Messages of history to ask for on entering, and at most, with messages around those that the user
// has missed.
const HISTORY = 50, CATCH_UP = 200, AROUND = 20;

const HEARERS = {
  __proto__: null,
  welcome(event, page) {
    const { link, log, rooms } = page;
    const before = rooms.current, { epoch } = rooms, here = event.room;
    const seen = rooms.enter(event);
    if (before === here && epoch !== event.epoch) log.anew();
    page.people.set(event.members);
    if (before === null) {
      page.address.begin(link.path);
      if (event.greeting) log.line("reply", event.greeting);
      if (event.motd) log.line("reply", event.motd);
    } else if (before !== here) {
      log.clear();
      page.address.moved(link.path);
      log.line("reply", `You are now in ${here}.`);
    } else if (page.returning) {
      log.line("reply", "Reconnected.");
    }
    log.unanswered();
    if (before !== here) enterLog(page, event.offset, seen);
    else if (log.empty) enterLog(page, event.offset, null);
    // A new connection watches nothing yet; otherwise the room that the user has left is missing.
    const missing = rooms.toWatch(before === here || before === null || page.returning ? null : before);
    if (missing.length) link.ask({ type: "watch", rooms: missing });
    if (before !== null && before !== here && !rooms.names.includes(before)) link.ask({ type: "unwatch", rooms: [before] });
    page.returning = false;
    page.asked.delete("quit");
    document.getElementById("room").textContent = here;
    showTopic(event.topic);
    showReadOnly(page, event.read_only);
    page.attention.show();
    if (event.nick === link.nick) keepNick(event.nick);
  },
  message(event, page) {
    page.people.heard(event.nick);
    page.log.message(event, page.link.called);
    page.rooms.heard(event.offset);
    if (page.attention.looking) page.rooms.look();
    if (event.nick !== page.link.called && event.kind !== "redaction") page.attention.count();
  },
  activity(event, page) {
    if (!page.rooms.note(event) || !event.mention) return;
    page.log.elsewhere(event.room, event.mention, page.link.called);
    page.attention.count();
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
    page.log.line("notice", nickOf(event.old), " is now known as ", nickOf(event.nick), ".");
  },
  away: (event, page) => page.log.line("notice", nickOf(event.nick), ` is away${event.reason ? `: ${event.reason}` : "."}`),
  back: (event, page) => page.log.line("notice", nickOf(event.nick), " is back."),
  names(event, page) {
    page.people.set(event.names);
    if (page.asked.delete("names")) page.log.line("reply", `${event.names.length} connected: ${event.names.join(", ")}`);
  },
  rooms(event, page) {
    page.known = event.rooms.map(({ room }) => room).sort();
    page.composer.offerRooms();
    if (page.asked.delete("rooms")) {
      page.log.line("reply", `Rooms: ${event.rooms.map(({ room, connected }) => `${room} (${connected})`).join(", ")}`);
    }
  },
  whois: (event, page) => page.log.line("reply", whoisText(event)),
  done: (event, page) => page.log.line("reply", event.text),
  moderated: (event, page) => page.log.line("notice", moderatedText(event)),
  topic(event, page) {
    showTopic(event.text);
    page.log.line("notice", topicText(event));
  },
  motd: (event, page) => page.log.line("reply", event.text || "There is no message of the day."),
  read_only(event, page) {
    showReadOnly(page, event.on && !page.link.welcome.operator);
    page.log.line("notice", event.on ? `${event.by} made the room read-only.` : `${event.by} lets everybody speak again.`);
  },
  bans(event, page) {
    if (!event.bans.length) page.log.line("reply", "There are no bans.");
    for (const ban of event.bans) page.log.line("reply", banText(ban));
  },
  private(event, page) {
    if (event.nick !== page.link.called) {
      page.whispered = event.nick;
      page.attention.count();
    }
    page.log.private(event, page.link.called);
  },
  history(event, page) {
    if (event.command === "history") {
      page.log.past(event.messages, event.complete, page.link.called);
      if (page.attention.looking) page.rooms.look();
      return;
    }
    showFound(page, event);
  },
  ack(event, page) {
    if (!event.said) return;
    const { type, text } = event.said;
    page.rooms.heard(event.offset);
    if (page.attention.looking) page.rooms.look();
    const kind = type === "action" ? "action" : "message";
    const nick = page.link.called;
    page.log.message({ offset: event.offset, time: Date.now() / 1000, nick, text, kind }, nick);
  },
  error(event, page) {
    // The page reports places by itself, and the next report replaces one that failed.
    if (event.command === "seen") return;
    if (event.command === "history") page.log.unanswered(false);
    if (event.command === "nick" && !page.asked.delete("nick")) {
      // The answer to a nick from the first dialog or the storage, not to a /nick.
      if (event.code !== "nick_taken") {
        askForNick(page, event.text);
        return;
      }
      keepNick(page.link.nick);
    }
    page.log.line("alarm", event.text, ...(event.said ? [` (${event.said.text})`] : []));
  },
};

/** Act on an event of the server. `page` has the parts of the page (app.js). */
export function hear(event, page) {
  HEARERS[event.type]?.(event, page);
}

/** Ask for the last messages of the room, and mark those behind the offset that the user has seen. */
function enterLog({ log }, offset, seen) {
  const missed = seen === null ? 0 : offset - seen;
  if (missed > 0) {
    const limit = Math.min(CATCH_UP, Math.max(HISTORY, missed + AROUND));
    log.line("reply", `${missedText(missed)}.${missed > limit ? " Scroll up for those before these." : ""}`);
    log.mark(seen, `Last read: ${missedText(missed)}`);
    log.begin(offset + 1, limit);
  } else {
    log.begin(offset + 1, HISTORY);
  }
}

function everybodyIn(event) {
  return [event.nick, ...(event.others ?? [])];
}

function showTopic(topic = "") {
  const shown = document.getElementById("topic");
  shown.replaceChildren(...rich(topic, ""));
  shown.title = topic;
}

function showReadOnly(page, on) {
  page.composer.hint = on ? "You cannot speak in this room" : "Message, or /help";
}
