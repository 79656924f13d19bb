// Makes the list items of messages. What a message costs does not depend on its size until the user
// asks for all of it.

import { blocksOf } from "./blocks.js";
import { budget, colourOf, element, rich, thinned } from "./text.js";
import { timeOf } from "./times.js";

// A message with more characters or lines is folded, to fewer.
const LONG = 2000, LINES = 20;
const FOLDED = 1200, FOLDED_LINES = 12;
// Lines of a quote to show, at most.
const QUOTED = 100;
// Characters that "Show all" shows, at most.
const ALL = 65_536;

/** A message of the room's log. `wanted` finds what is to be marked. */
export function messageItem(message, wanted) {
  const { offset, time, nick, kind, text } = message;
  let item;
  if (kind === "redaction") {
    item = element("li", "notice", timeOf(time, offset), nickButton(nick), ` removed message ${text}.`);
  } else {
    const action = kind === "action";
    const head = element("div", "head", timeOf(time, offset), nickButton(nick), unseen(action ? " " : ": "));
    if (action) head.querySelector(".nick").before(unseen("** "));
    const body = bodyOf(message, wanted);
    item = element("li", action ? "action" : "said", head, body, moreButton(nick));
    item.classList.toggle("mentions", body.querySelector("mark") !== null);
  }
  item.dataset.offset = offset;
  item.tabIndex = -1;
  return item;
}

/** A private message, from `nick` or to it. */
export function privateItem(event, own) {
  const mine = event.nick === own;
  const head = element("div", "head", timeOf(event.time), element("span", "label", mine ? "to " : "from "),
    nickButton(mine ? event.to : event.nick), unseen(": "));
  return element("li", "private", head, bodyOf(event, null));
}

/** A message of another room, which mentions the user. */
export function elsewhereItem(room, message, wanted) {
  const head = element("div", "head", timeOf(message.time), element("bdi", "label", `[${room}] `),
    nickButton(message.nick), unseen(": "));
  return element("li", "elsewhere", head, bodyOf(message, wanted));
}

/** The text of a message, with "Show all" if it is long. */
export function bodyOf({ kind, text }, wanted) {
  const body = element("div", "text");
  if (kind === "redacted") {
    body.append(element("em", "removed", "message removed"));
    return body;
  }
  const end = foldAt(text);
  if (end === null) {
    show(body, text, text, wanted);
    return body;
  }
  show(body, text.slice(0, end), text, wanted);
  body.append(foldButton(body, text, end, wanted));
  return body;
}

function foldButton(body, text, end, wanted) {
  const button = element("button", "fold", "Show all");
  button.type = "button";
  button.ariaExpanded = "false";
  button.addEventListener("click", () => {
    const open = button.ariaExpanded === "false";
    show(body, text.slice(0, open ? ALL : end), text, wanted);
    if (open && text.length > ALL) body.append(element("p", "removed", `${(text.length - ALL).toLocaleString()} more characters`));
    button.ariaExpanded = String(open);
    button.textContent = open ? "Show less" : "Show all";
    body.append(button);
    button.focus({ preventScroll: true });
    body.dispatchEvent(new CustomEvent("refold", { bubbles: true }));
  });
  return button;
}

/** Where to cut a long text; null: it is not long. Reads no more than it may show. */
function foldAt(text) {
  const head = text.slice(0, LONG);
  let lines = 0, short = head.length;
  for (let at = head.indexOf("\n"); at >= 0 && lines < LINES; at = head.indexOf("\n", at + 1)) {
    lines += 1;
    if (lines === FOLDED_LINES) short = at;
  }
  if (text.length <= LONG && lines < LINES) return null;
  const end = Math.min(short, FOLDED);
  // Not within a pair of surrogates.
  return /[\uD800-\uDBFF]/u.test(text.charAt(end - 1)) ? end - 1 : end;
}

/** Show `shown`, the begin of `whole`, in `body`. */
function show(body, shown, whole, wanted) {
  const blocks = blocksOf(shown);
  const left = budget();
  body.replaceChildren();
  body.classList.toggle("plain", blocks.length === 1 && blocks[0].kind === "text");
  if (body.classList.contains("plain")) {
    body.dir = "auto";
    body.append(...rich(blocks[0].text, wanted, left));
    return;
  }
  let codes = 0;
  for (const [at, { kind, text }] of blocks.entries()) {
    // Selected and copied, the blocks must not run into one another.
    if (at > 0) body.append("\n");
    if (kind === "code") {
      body.append(codeBlock(text, whole, codes));
      codes += 1;
    } else {
      const block = kind === "quote" ? quoteBlock(text, wanted, left) : element("p", "", ...rich(text, wanted, left));
      block.dir = "auto";
      body.append(block);
    }
  }
}

/** A quote. Each line keeps its sign, for copies. */
function quoteBlock(text, wanted, left) {
  const block = element("blockquote");
  for (const line of text.split("\n", QUOTED)) block.append(block.hasChildNodes() ? "\n" : "", unseen("> "), ...rich(line, wanted, left));
  return block;
}

/** Code with a button that copies all of it, also if the message is folded. `index`: which code of `whole` it is. */
function codeBlock(text, whole, index) {
  const code = element("pre", "", element("code", "", thinned(text)));
  code.tabIndex = 0;
  code.role = "group";
  code.ariaLabel = "Code";
  const copy = element("button", "copy");
  copy.type = "button";
  copy.ariaLabel = "Copy code";
  copy.addEventListener("click", async () => {
    const all = blocksOf(whole).filter(({ kind }) => kind === "code");
    await copyText(all[index].text);
    copy.classList.add("copied");
    copy.ariaLabel = "Copied";
    setTimeout(() => {
      copy.classList.remove("copied");
      copy.ariaLabel = "Copy code";
    }, 2000);
  });
  return element("div", "code", code, copy);
}

/** Put a text on the clipboard. */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return;
  } catch {
    // Only pages from https: and from this machine have a clipboard, and the user may forbid it.
  }
  const { activeElement } = document;
  const field = element("textarea", "unseen", text);
  document.body.append(field);
  field.select();
  document.execCommand("copy");
  field.remove();
  activeElement.focus({ preventScroll: true });
}

/** A nick that opens a menu. The style sheet draws its first letter beside the message. */
function nickButton(nick) {
  const button = element("button", "nick", element("bdi", "", nick));
  button.type = "button";
  button.tabIndex = -1; // The message can be focused, and has the same menu.
  button.dataset.nick = nick;
  button.dataset.initial = [...nick][0]?.toUpperCase() ?? "";
  button.style.setProperty("--nick", colourOf(nick));
  return button;
}

function moreButton(nick) {
  const button = element("button", "more");
  button.type = "button";
  button.tabIndex = -1; // Enter on the message does the same.
  button.ariaLabel = `Actions for this message of ${nick}`;
  return button;
}

/** Text for screen readers, searches in the page and copies. */
function unseen(text) {
  return element("span", "unseen", text);
}
