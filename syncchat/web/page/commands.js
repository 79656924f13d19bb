// The commands: those of the other clients, and some of the terminal client. Parses a typed line.

// In the groups of the help, by name: arguments, help, and a function that makes the event; falsy for
// wrong arguments. `local` is a command that the page carries out (local_commands.js).
const GROUPS = {
  Messages: {
    me: ["TEXT", "send an action", (text) => text && { type: "action", text }],
    msg: ["NAME TEXT", "send a private message", (text) => {
      const [, to, words] = /^(\S+)\s+(.+)$/su.exec(text) ?? [];
      return to && { type: "private", to: nameIn(to), text: words };
    }],
    reply: ["TEXT", "reply to the last private message", (text) => text && { local: "reply", text }],
    query: ["[NAME]", "talk with one person, until /query alone", (text) => ({ local: "query", text })],
    history: ["[N]", "go back in the messages, by N", (text) => /^\d{0,6}$/u.test(text) && { local: "history", text }],
    search: ["[WORDS]", "search the messages", (text) => ({ local: "search", text })],
  },
  Rooms: {
    join: ["ROOM", "enter another room", (text) => text && { type: "join", room: text }],
    room: ["[ROOM]", "go to a room that you follow", (text) => ({ local: "room", text })],
    part: ["[ROOM]", "stop following a room", (text) => ({ local: "part", text })],
    rooms: ["", "list the rooms", () => ({ type: "rooms" })],
    topic: ["[TEXT]", "show or set the topic; - removes it", (text) => ({ type: "topic", ...setting(text) })],
    motd: ["[TEXT]", "show or set the message of the day; - removes it", (text) => ({ type: "motd", ...setting(text) })],
  },
  People: {
    names: ["", "list the people in this room", () => ({ type: "names" })],
    whois: ["NAME", "show details about a person", (text) => text && { type: "whois", nick: nameIn(text) }],
    nick: ["NAME", "change your nick", (text) => text && { type: "nick", nick: text }],
    away: ["[REASON]", "mark yourself as away", (text) => ({ type: "away", reason: text })],
    back: ["", "mark yourself as back", () => ({ type: "back" })],
    ignore: ["[NAME]", "ignore a person", (text) => ({ local: "ignore", text })],
    unignore: ["NAME", "stop ignoring a person", (text) => text && { local: "unignore", text }],
  },
  "This page": {
    highlight: ["[WORD]", "mark a word like your nick", (text) => ({ local: "highlight", text })],
    unhighlight: ["WORD", "stop marking a word", (text) => text && { local: "unhighlight", text }],
    timestamp: ["[on|off]", "show the time of each message", (text) => ({ local: "timestamp", text })],
    bell: ["[off|mention|all]", "set when the bell rings", (text) => ({ local: "bell", text })],
    clear: ["", "clear the screen", () => ({ local: "clear" })],
    reconnect: ["", "connect anew", () => ({ local: "reconnect" })],
    help: ["[COMMAND]", "show this list", (text) => ({ local: "help", text })],
    quit: ["[REASON]", "leave; the others are told the reason", (text) => ({ type: "quit", reason: text })],
  },
  Operators: {
    kick: ["NAME [REASON]", "remove a person from this room", (text) => {
      const [nick, reason] = split(text);
      return nick && { type: "kick", nick: nameIn(nick), reason };
    }],
    ban: ["NAME|ADDRESS[/PREFIX] [TIME] [REASON]", "keep somebody out, for 90s, 10m, 2h, 3d or ever", (text) => {
      const [target, rest] = split(text);
      const [time, reason] = split(rest);
      const seconds = secondsIn(time);
      // Only a nick is written as an address to a person.
      const nick = target.replace(/[:,]+$/u, "").includes(":") ? target : nameIn(target);
      return nick && { type: "ban", target: nick, ...(seconds ? { seconds, reason } : { reason: rest }) };
    }],
    unban: ["NAME|ADDRESS[/PREFIX]", "lift a ban", (text) => text && { type: "unban", target: text }],
    bans: ["", "list the bans", () => ({ type: "bans" })],
    mute: ["NAME [TIME]", "let a person read but not speak", (text) => {
      const [nick, time] = split(text);
      const seconds = secondsIn(time);
      return nick && (!time || seconds) && { type: "mute", nick: nameIn(nick), ...(seconds && { seconds }) };
    }],
    unmute: ["NAME", "let a person speak again", (text) => oneName(text, "unmute")],
    redact: ["NAME|NUMBER", "hide a person's last message, or one by number", (text) => {
      if (/^\d{1,15}$/u.test(text)) return { type: "redact", offset: Number(text) };
      return oneName(text, "redact");
    }],
    "read-only": ["on|off", "let only operators speak", (text) => (
      /^(on|off)$/iu.test(text) && { type: "read_only", on: text.toLowerCase() === "on" }
    )],
    op: ["NAME", "make a person an operator of this room", (text) => oneName(text, "op")],
    deop: ["NAME", "undo /op", (text) => oneName(text, "deop")],
  },
};

/** All commands, by name. */
export const COMMANDS = Object.assign(Object.create(null), ...Object.values(GROUPS));

/** The help: groups with a `title` and `rows` of a usage and what it does. */
export const HELP = Object.entries(GROUPS).map(([title, commands]) => ({
  title,
  rows: Object.entries(commands).map(([name, [usage, help]]) => [`/${name} ${usage}`.trim(), help]),
}));
HELP[0].rows.push(["//TEXT", "send a text that begins with a slash"]);

/** Other names of commands, from habit. They are not listed. */
const ALIASES = { __proto__: null, exit: "quit", j: "join", q: "quit", w: "names" };

// Seconds of the units of a TIME.
const UNITS = { s: 1, m: 60, h: 3600, d: 86_400 };

/** The event for a line; `{local}` for a command of the page; `{wrong}` with an error text. */
export function parse(typed) {
  // Blanks before a command must not send a private message to the room.
  const line = typed.trimStart();
  if (!line.startsWith("/")) return { type: "say", text: typed };
  if (line.startsWith("//")) return { type: "say", text: line === typed ? line.slice(1) : typed };
  const [, word, rest] = /^\/(\S*)\s*(.*)$/su.exec(line);
  const name = nameOf(word);
  const command = COMMANDS[name];
  // Blanks and a slash do not make an unknown command, but a text.
  if (!command) return line === typed ? { wrong: unknown(word) } : { type: "say", text: typed };
  return command[2](rest.trim()) || { wrong: `Usage: /${name} ${command[0]}` };
}

/** The arguments of a command; empty: it has none, or there is none of this name. */
export function argumentsOf(word) {
  return COMMANDS[nameOf(word)]?.[0] ?? "";
}

/** What `/help WORD` says. */
export function explanation(word) {
  const name = word.replace(/^\//u, "").toLowerCase();
  return COMMANDS[name] ? `/${name} ${COMMANDS[name][0]}`.trim() + `: ${COMMANDS[name][1]}` : unknown(name);
}

/** The nick in a word that addresses a person. */
export function nameIn(text) {
  return text.replace(/^@/u, "").replace(/[:,]+$/u, "");
}

function nameOf(word) {
  return ALIASES[word.toLowerCase()] ?? word.toLowerCase();
}

function unknown(word) {
  const name = word.toLowerCase();
  const near = Object.keys(COMMANDS).filter((each) => name && each.startsWith(name)).map((each) => `/${each}`);
  const meant = near.length ? ` Did you mean ${near.slice(0, 3).join(" or ")}?` : "";
  return `Unknown command /${word.slice(0, 40)}.${meant} /help lists them.`;
}

/** The first word of a text, and the rest; empty if there is none. */
function split(text) {
  const [, word = "", rest = ""] = /^(\S+)\s*(.*)$/su.exec(text) ?? [];
  return [word, rest];
}

function oneName(text, type) {
  return /^\S+$/u.test(text) && { type, nick: nameIn(text) };
}

/** A text to set; `-` removes what is set, and no text asks for it. */
function setting(text) {
  return text ? { text: text === "-" ? "" : text } : {};
}

/** The seconds of a TIME such as 10m; 0: it is none. */
function secondsIn(word) {
  const [, number, unit] = /^(\d{1,9})([smhd])$/iu.exec(word) ?? [];
  return number ? Number(number) * UNITS[unit.toLowerCase()] : 0;
}
