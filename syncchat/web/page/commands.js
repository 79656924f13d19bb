// What a typed line means, and what can complete it. The same commands as everywhere.

/** By name: what is written behind it, what it does, and the event it asks for; null: it is wrong. */
export const COMMANDS = {
  __proto__: null, // So that "constructor" is no command.
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

/** The event for a line, or `{local}`, or `{wrong}` with what to tell. */
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
 * What can stand at the end of `text`: `{from, choices}`, each choice with what is put in and
 * what is shown. `people` are the nicks, who spoke last first.
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
