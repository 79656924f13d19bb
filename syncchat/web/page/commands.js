// Parses and completes a typed line. The commands are those of the other clients.

/** By name: arguments, help, and a function that makes the event; falsy for wrong arguments. */
export const COMMANDS = {
  __proto__: null, // Otherwise "constructor" would be a command.
  help: ["", "show this list", () => ({ local: "help" })],
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
  history: ["", "show earlier messages", () => ({ local: "history" })],
  search: ["WORDS", "search the messages", (text) => text && { type: "search", words: text, limit: 20 }],
  away: ["[REASON]", "mark yourself as away", (text) => ({ type: "away", reason: text })],
  back: ["", "mark yourself as back", () => ({ type: "back" })],
};

/** The event for a line; `{local}` for a command of the page; `{wrong}` with an error text. */
export function parse(line) {
  if (!line.startsWith("/")) return { type: "say", text: line };
  if (line.startsWith("//")) return { type: "say", text: line.slice(1) };
  const [, word, rest] = /^\/(\S*)\s*(.*)$/su.exec(line);
  const name = word.toLowerCase();
  const command = COMMANDS[name];
  if (!command) {
    const near = Object.keys(COMMANDS).filter((each) => name && each.startsWith(name)).map((each) => `/${each}`);
    const meant = near.length ? ` Did you mean ${near.slice(0, 3).join(" or ")}?` : "";
    return { wrong: `Unknown command /${word.slice(0, 40)}.${meant} /help lists them.` };
  }
  return command[2](rest.trim()) || { wrong: `Usage: /${name} ${command[0]}` };
}

/**
 * The completions of the last word of `text`: `{from, choices}`. `from` is where the word begins;
 * a choice has `put`, the text to insert, `shown` and `hint`. `people` are the nicks; the one that
 * spoke last comes first.
 */
export function completions(text, people, rooms) {
  const from = text.search(/\S*$/u);
  const start = text.slice(from);
  const words = text.slice(0, from).trim().split(/\s+/u).filter(Boolean);
  const nicks = (end) => people
    .filter((nick) => nick.toLowerCase().startsWith(start.replace(/^@/u, "").toLowerCase()))
    .map((nick) => ({ put: (start.startsWith("@") ? "@" : "") + nick + end, shown: nick, hint: "" }));
  if (text.startsWith("/") && !text.startsWith("//")) {
    if (!words.length) {
      const choices = Object.entries(COMMANDS)
        .filter(([name]) => `/${name}`.startsWith(start.toLowerCase()))
        .map(([name, [usage, help]]) => ({ put: `/${name} `, shown: `/${name} ${usage}`.trim(), hint: help }));
      return { from, choices };
    }
    const usage = COMMANDS[words[0].slice(1).toLowerCase()]?.[0] ?? "";
    if (words.length === 1 && usage === "ROOM") {
      const wanted = start.replace(/^#+/u, "").toLowerCase();
      const choices = rooms.filter((room) => room.startsWith(wanted));
      return { from, choices: choices.map((room) => ({ put: room, shown: room, hint: "" })) };
    }
    return { from, choices: start || usage.startsWith("NAME") ? nicks(" ") : [] };
  }
  return { from, choices: start ? nicks(words.length ? " " : ": ") : [] };
}

function nameIn(text) {
  return text.replace(/^@/u, "").replace(/[:,]+$/u, "");
}
