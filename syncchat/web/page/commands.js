// Parses and completes a typed line. The commands are those of the other clients.

/** By name: arguments, help, and a function that makes the event; falsy for wrong arguments. */
export const COMMANDS = {
  __proto__: null, // Otherwise "constructor" would be a command.
  help: ["", "this list", () => ({ local: "help" })],
  nick: ["NAME", "take another name", (text) => text && { type: "nick", nick: text }],
  me: ["TEXT", "do something", (text) => text && { type: "action", text }],
  msg: ["NAME TEXT", "say something to one person", (text) => {
    const [, to, words] = /^(\S+)\s+(.+)$/su.exec(text) ?? [];
    return to && { type: "private", to: nameIn(to), text: words };
  }],
  reply: ["TEXT", "answer the last of these", (text) => text && { local: "reply", text }],
  names: ["", "who is here", () => ({ type: "names" })],
  whois: ["NAME", "who that is", (text) => text && { type: "whois", nick: nameIn(text) }],
  rooms: ["", "which rooms there are", () => ({ type: "rooms" })],
  join: ["ROOM", "go to another room", (text) => text && { type: "join", room: text }],
  history: ["", "what was said before", () => ({ local: "history" })],
  search: ["WORDS", "what was said of it", (text) => text && { type: "search", words: text, limit: 20 }],
  away: ["[REASON]", "be away", (text) => ({ type: "away", reason: text })],
  back: ["", "be back", () => ({ type: "back" })],
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
    return { wrong: `There is no command /${word.slice(0, 40)}.${meant} /help lists them.` };
  }
  return command[2](rest.trim()) || { wrong: `Write it as /${name} ${command[0]}` };
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
