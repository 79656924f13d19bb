// Parses a typed line. The commands are those of the other clients.

/** By name: arguments, help, and a function that makes the event; falsy for wrong arguments. */
export const COMMANDS = {
  __proto__: null, // Otherwise "constructor" would be a command.
  help: ["[COMMAND]", "show this list", (text) => ({ local: "help", text })],
  nick: ["NAME", "change your nick", (text) => text && { type: "nick", nick: text }],
  me: ["TEXT", "send an action", (text) => text && { type: "action", text }],
  msg: ["NAME TEXT", "send a private message", (text) => {
    const [, to, words] = /^(\S+)\s+(.+)$/su.exec(text) ?? [];
    return to && { type: "private", to: nameIn(to), text: words };
  }],
  reply: ["TEXT", "reply to the last private message", (text) => text && { local: "reply", text }],
  names: ["", "list the people in this room", () => ({ type: "names" })],
  whois: ["NAME", "show details about a person", (text) => text && { type: "whois", nick: nameIn(text) }],
  rooms: ["", "list the rooms", () => ({ type: "rooms" })],
  join: ["ROOM", "enter another room", (text) => text && { type: "join", room: text }],
  history: ["[NUMBER]", "go back in the messages", (text) => /^\d{0,6}$/u.test(text) && { local: "history", number: Number(text) || undefined }],
  search: ["[WORDS]", "search the messages", (text) => ({ local: "search", words: text })],
  away: ["[REASON]", "mark yourself as away", (text) => ({ type: "away", reason: text })],
  back: ["", "mark yourself as back", () => ({ type: "back" })],
  room: ["[ROOM]", "go to a room that you follow", (text) => ({ local: "room", text })],
  query: ["[NAME]", "talk with one person; without a name, with the room again", (text) => ({ local: "query", text: nameIn(text) })],
  ignore: ["[NAME]", "hide the messages of a person", (text) => ({ local: "ignore", text: nameIn(text) })],
  unignore: ["NAME", "show them again", (text) => text && { local: "unignore", text: nameIn(text) }],
  highlight: ["[WORD]", "mark a word like your nick", (text) => ({ local: "highlight", text })],
  unhighlight: ["WORD", "stop marking a word", (text) => text && { local: "unhighlight", text }],
  bell: ["off|mention|all", "set when a sound is made", (text) => /^(|off|mention|all)$/iu.test(text) && { local: "bell", text: text.toLowerCase() }],
  timestamp: ["[on|off]", "show the time of each message", (text) => /^(|on|off|hh:mm)$/iu.test(text) && { local: "timestamp", text: text.toLowerCase() }],
  clear: ["", "clear the screen", () => ({ local: "clear" })],
  part: ["[ROOM]", "stop following a room", (text) => ({ local: "part", room: text })],
  reconnect: ["", "connect anew", () => ({ local: "reconnect" })],
  quit: ["[REASON]", "leave", (text) => ({ type: "quit", reason: text })],
  topic: ["[TEXT]", "show or set the topic; - removes it", (text) => ({ type: "topic", ...setting(text) })],
  motd: ["[TEXT]", "show or set the message of the day; - removes it", (text) => ({ type: "motd", ...setting(text) })],
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
};

/** Other names of commands, from habit. They are not listed. */
const ALIASES = { __proto__: null, exit: "quit", j: "join", q: "quit", w: "names" };

// Seconds of the units of a TIME.
const UNITS = { s: 1, m: 60, h: 3600, d: 86_400 };

/** The command with this name or alias; undefined: there is none. */
export function commandOf(name) {
  return COMMANDS[ALIASES[name.toLowerCase()] ?? name.toLowerCase()];
}

/** The event for a line; `{local}` for a command of the page; `{wrong}` with an error text. */
export function parse(line) {
  if (!line.startsWith("/")) return { type: "say", text: line };
  if (line.startsWith("//")) return { type: "say", text: line.slice(1) };
  const [, word, rest] = /^\/(\S*)\s*(.*)$/su.exec(line);
  const name = ALIASES[word.toLowerCase()] ?? word.toLowerCase();
  const command = COMMANDS[name];
  if (!command) {
    const near = Object.keys(COMMANDS).filter((each) => name && each.startsWith(name)).map((each) => `/${each}`);
    const meant = near.length ? ` Did you mean ${near.slice(0, 3).join(" or ")}?` : "";
    return { wrong: `Unknown command /${word.slice(0, 40)}.${meant} /help lists them.` };
  }
  return command[2](rest.trim()) || { wrong: `Usage: /${name} ${command[0]}` };
}

function nameIn(text) {
  return text.replace(/^@/u, "").replace(/[:,]+$/u, "");
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
