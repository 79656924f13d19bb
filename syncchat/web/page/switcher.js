// The switcher: a dialog that finds a room or a person by a part of the name (ARIA Authoring
// Practices, "Combobox").

import { go } from "./actions.js";
import { show } from "./form.js";
import { message } from "./frame_menus.js";
import { element, nickOf } from "./text.js";

// Entries to show of each kind, at most.
const MOST = 50;
let refresh = () => {}; // Shows the rooms that the server has told.

/** Open the dialog. `page` has the parts of the page (app.js). */
export function openSwitcher(page) {
  if (document.querySelector("dialog[open]")) return;
  const input = element("input");
  Object.assign(input, { type: "text", autocomplete: "off", spellcheck: false, role: "combobox", placeholder: "Room or person" });
  input.setAttribute("aria-label", "Go to a room, or write to a person");
  input.setAttribute("aria-controls", "destinations");
  input.setAttribute("aria-expanded", "true");
  input.setAttribute("aria-autocomplete", "list");
  input.setAttribute("enterkeyhint", "go");
  const list = element("div", "destinations");
  Object.assign(list, { id: "destinations", role: "listbox", ariaLabel: "Rooms and people" });
  const dialog = element("dialog", "sheet switcher", element("div", "", input, list));
  dialog.ariaLabel = "Go to";
  let options = [], chosen = 0;
  const choose = (option) => {
    dialog.close();
    page.composer.focus();
    option?.act();
  };
  const mark = (number) => {
    chosen = number;
    for (const [each, { item }] of options.entries()) item.ariaSelected = String(each === chosen);
    const item = options[chosen]?.item;
    if (item) input.setAttribute("aria-activedescendant", item.id);
    else input.removeAttribute("aria-activedescendant");
    // The first one with its heading.
    (chosen === 0 ? list.firstElementChild : item)?.scrollIntoView({ block: "nearest" });
  };
  const draw = () => {
    options = [];
    list.replaceChildren(...destinations(page, input.value.trim()).filter(({ entries }) => entries.length).map(({ kind, entries }) => {
      const heading = element("div", "kind", kind);
      heading.ariaHidden = "true";
      const group = element("div", "", heading);
      Object.assign(group, { role: "group", ariaLabel: kind });
      for (const { shown, hint, act } of entries) {
        const item = element("div", "", shown, ...(hint ? [element("span", "hint", hint)] : []));
        Object.assign(item, { role: "option", id: `destination-${options.length}` });
        const option = { item, act };
        item.addEventListener("click", () => choose(option));
        options.push(option);
        group.append(item);
      }
      return group;
    }));
    mark(0);
  };
  input.addEventListener("input", draw);
  input.addEventListener("keydown", (event) => {
    if (event.isComposing) return;
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (by && options.length) mark((chosen + by + options.length) % options.length);
    else if (event.key === "Enter") choose(options[chosen]);
    else return;
    event.preventDefault();
  });
  refresh = draw;
  dialog.addEventListener("close", () => { refresh = () => {}; });
  show(dialog);
  draw();
  page.link?.ask({ type: "rooms" });
}

/** Show the rooms that have come from the server, if the dialog is open. */
export function refreshSwitcher() {
  refresh();
}

/** What the dialog offers for a typed text: kinds with entries, the best first. */
function destinations(page, typed) {
  const wanted = typed.replace(/^[#@]+/u, "").toLowerCase();
  const fits = (name) => name.toLowerCase().includes(wanted);
  const { current, recent, names } = page.rooms;
  const followed = recent.filter((name) => name !== current && fits(name)).slice(0, MOST);
  const others = page.known.filter((room) => !names.includes(room) && fits(room)).slice(0, MOST);
  const people = page.people.others(page.link?.called).filter(fits).slice(0, MOST);
  const isNew = wanted && !/\s/u.test(wanted) && ![...names, ...page.known].includes(wanted);
  return [
    { kind: "Your rooms", entries: followed.map((room) => roomEntry(page, room, unreadText(page, room))) },
    { kind: "Other rooms of the server", entries: others.map((room) => roomEntry(page, room, `${page.crowds.get(room)} here`)) },
    {
      kind: "People",
      entries: people.map((nick) => ({ shown: nickOf(nick), hint: "private message", act: () => message(page, nick) })),
    },
    { kind: "New", entries: isNew ? [roomEntry(page, wanted, "join or create the room")] : [] },
  ];
}

function roomEntry(page, room, hint) {
  return { shown: element("span", "", `#${room}`), hint, act: () => go(page, room) };
}

function unreadText(page, room) {
  const { unread, mentioned } = page.rooms.news(room);
  return unread ? `${mentioned ? "@" : ""}${unread} unread` : "";
}
