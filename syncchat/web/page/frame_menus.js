// The menus of a person, of a room in the list, and of the current room.

import { act, enter, ignorePerson } from "./actions.js";
import { moderation, roomSettings } from "./operators.js";
import { isIgnored } from "./settings.js";

/** The groups of the menu of a person. */
export function personMenu(page, nick) {
  const own = nick === page.link?.called;
  const hidden = isIgnored(nick);
  const whois = { label: "Who is this?", act: () => act(page, { type: "whois", nick }) };
  if (own) return [[{ label: "Mention", act: () => page.composer.insert(`@${nick} `) }, whois]];
  return [
    [
      { label: "Mention", act: () => page.composer.insert(`@${nick} `) },
      { label: "Private message", act: () => message(page, nick) },
      whois,
    ],
    [{ label: hidden ? "Stop ignoring" : "Ignore", act: () => ignorePerson(page, nick, !hidden) }],
    page.link?.welcome?.operator ? moderation(page, nick) : [],
  ];
}

/** Write to a person privately, until the user ends it. */
export function message(page, nick) {
  page.composer.partner = nick;
  page.composer.focus();
}

/** The groups of the menu of a room in the list. */
export function listedRoomMenu(page, room) {
  const isRead = !page.rooms.news(room).unread;
  return [
    isRead ? [] : [{ label: "Mark as read", act: () => page.rooms.markRead(room) }],
    [copyItem(page, room), leaveItem(page, room)],
  ];
}

/** The groups of the menu of the current room. */
export function currentRoomMenu(page) {
  const room = page.rooms.current;
  return [
    [copyItem(page, room), leaveItem(page, room)],
    page.link.welcome?.operator ? roomSettings(page) : [],
  ];
}

function copyItem(page, room) {
  const url = new URL(page.address.base + encodeURIComponent(room), location.href);
  return {
    label: "Copy the link",
    act: () => navigator.clipboard.writeText(url.href).catch(() => page.log.line("reply", `The link of ${room}: ${url.href}`)),
  };
}

function leaveItem(page, room) {
  return { label: "Leave the room", act: () => enter(`/part ${room}`, page) };
}
