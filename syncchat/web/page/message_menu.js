// The menu of a message, and walking through the messages by keys.

import { act } from "./actions.js";
import { copied } from "./blocks.js";
import { openMenu } from "./menu.js";

const tools = document.getElementById("tools"), talk = document.getElementById("talk");
let pointed = null; // The node of the message at which the button for its menu is.

/** Offer the menus of messages. `page` has the parts of the page (app.js). */
export function offerMenus(page) {
  const showTools = ({ target }) => {
    const node = target.closest?.("#messages > .message");
    if (target === tools || node === pointed) return;
    pointed = node ?? null;
    tools.hidden = !page.log.messageAt(node ?? talk)?.offset;
    if (node) tools.style.setProperty("top", `${node.offsetTop}px`);
  };
  talk.addEventListener("pointerover", showTools);
  talk.addEventListener("focusin", showTools);
  talk.addEventListener("pointerleave", () => { tools.hidden = true; pointed = null; });
  tools.addEventListener("click", () => open(page, pointed, tools));
  talk.addEventListener("click", ({ target }) => {
    const message = target.closest?.(".nick") && page.log.messageAt(target);
    if (message) openMenu(target, page.people.actionsFor(message.nick));
  });
  talk.addEventListener("contextmenu", (event) => {
    // The browser's own menu has the commands for links and for what is selected.
    if (event.target.closest("a") || !getSelection().isCollapsed || event.pointerType !== "touch") return;
    const node = event.target.closest("#messages > .message");
    if (node && open(page, node, node)) event.preventDefault();
  });
  talk.addEventListener("keydown", (event) => walk(page, event));
}

function walk(page, event) {
  const { key, target } = event;
  const node = target.closest("#messages > li");
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  if (node === target && (key === "Enter" || key === "ContextMenu")) {
    if (open(page, node, node)) event.preventDefault();
  } else if ((key === "ArrowUp" || key === "ArrowDown") && (target === talk || node === target)) {
    const all = [...talk.querySelectorAll("#messages > .message:not([hidden])")];
    const at = node ? all.indexOf(node) + (key === "ArrowUp" ? -1 : 1) : lastSeen(all);
    const next = all[at];
    if (!next) return;
    event.preventDefault();
    next.tabIndex = -1;
    next.focus();
  }
}

/** The index of the last message that is wholly visible. */
function lastSeen(all) {
  const { bottom } = talk.getBoundingClientRect();
  return all.findLastIndex((node) => node.getBoundingClientRect().bottom <= bottom + 1);
}

/** Open the menu of the message of this node. Returns whether it has one. */
function open(page, node, anchor) {
  const message = node && page.log.messageAt(node);
  if (!message?.offset) return false;
  const { kind, nick, offset, text } = message;
  const link = `${location.origin}${location.pathname}#${offset}`;
  const has = kind === "message" || kind === "action";
  openMenu(anchor, [
    has ? [
      { label: "Reply with a quote", act: () => page.composer.quote({ nick, text, offset }) },
      { label: "Copy the text", act: () => copied(text) },
    ] : [],
    [{ label: "Copy a link to the message", act: () => copied(link) }],
    has && page.link.welcome?.operator ? [{ label: "Remove the message", act: () => act(page, { type: "redact", offset }) }] : [],
    page.people.actionsFor(nick).flat().map(({ label, act: then }) => ({ label: `${nick}: ${label}`, act: then })),
  ]);
  return true;
}
