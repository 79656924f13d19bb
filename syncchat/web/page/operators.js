// What operators do by menus and small dialogs.

import { act } from "./actions.js";
import { askForm } from "./form.js";
import { element } from "./text.js";

// Limits of the server, in characters.
const TOPIC = 400, MOTD = 4000, REASON = 200;
const DURATION = {
  name: "seconds", label: "For how long", kind: "choice",
  choices: [["600", "10 minutes"], ["3600", "1 hour"], ["86400", "1 day"], ["604800", "1 week"], ["", "Until it is lifted"]],
};
const WHY = { name: "reason", label: "Reason, which the room can read (optional)", most: REASON };

/** The items of a person's menu that are for operators. */
export function moderation(page, nick) {
  return [
    { label: "Mute…", act: () => mute(page, nick) },
    { label: "Unmute", act: () => act(page, { type: "unmute", nick }) },
    { label: "Remove from the room…", act: () => kick(page, nick) },
    { label: "Ban…", act: () => ban(page, nick) },
    page.people.isOperator(nick)
      ? { label: "Make an ordinary member", act: () => act(page, { type: "deop", nick }) }
      : { label: "Make an operator of the room", act: () => act(page, { type: "op", nick }) },
  ];
}

/** The items of the room's menu that are for operators. */
export function roomSettings(page) {
  return [
    { label: "Set the topic…", act: () => setText(page, "topic", "Topic of the room", TOPIC) },
    { label: "Set the message of the day…", act: () => setText(page, "motd", "Message of the day", MOTD) },
    { label: "Let only operators speak", act: () => act(page, { type: "read_only", on: true }) },
    { label: "Let everybody speak", act: () => act(page, { type: "read_only", on: false }) },
    { label: "List the bans", act: () => act(page, { type: "bans" }) },
  ];
}

/** A button that lifts the ban of `target`, for the list of bans. */
export function liftButton(page, target) {
  const button = element("button", "lift", "Lift");
  button.type = "button";
  button.ariaLabel = `Lift the ban of ${target}`;
  button.addEventListener("click", () => {
    if (act(page, { type: "unban", target })) button.disabled = true;
  });
  return button;
}

async function kick(page, nick) {
  const answer = await askForm(`Remove ${nick} from ${page.rooms.current}?`, [WHY], "Remove");
  if (answer) act(page, { type: "kick", nick, reason: answer.reason });
}

async function ban(page, nick) {
  const answer = await askForm(`Ban ${nick}?`, [DURATION, WHY], "Ban");
  if (answer) act(page, { type: "ban", target: nick, ...timeIn(answer), reason: answer.reason });
}

async function mute(page, nick) {
  const answer = await askForm(`Mute ${nick}?`, [DURATION], "Mute");
  if (answer) act(page, { type: "mute", nick, ...timeIn(answer) });
}

async function setText(page, type, title, most) {
  const value = type === "topic" ? document.getElementById("topic").title : "";
  const kind = type === "topic" ? "text" : "area";
  const answer = await askForm(title, [{ name: "text", label: "Text; empty for none", value, kind, most }], "Set");
  if (answer) act(page, { type, text: answer.text });
}

function timeIn({ seconds }) {
  return seconds ? { seconds: Number(seconds) } : {};
}
