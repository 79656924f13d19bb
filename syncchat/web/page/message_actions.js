// What a reader does with the messages in the list: walk by keys, open menus, copy.

import { act } from "./actions.js";
import { copyText } from "./message.js";
import { openMenu } from "./menu.js";
import { clockText } from "./times.js";

// Items of the list that can be focused.
const ITEMS = "li[data-offset]:not([hidden])";

/** Offer this. `page` has the parts of the page (app.js). */
export class MessageActions {
  #list = document.getElementById("log");
  #box = document.getElementById("talk");

  constructor(page) {
    this.page = page;
    this.#list.addEventListener("click", ({ target }) => this.#clicked(target));
    this.#box.addEventListener("keydown", (event) => this.#pressed(event));
    this.#list.addEventListener("copy", (event) => this.#copied(event));
  }

  #clicked(target) {
    const nick = target.closest(".nick"), item = target.closest("li");
    if (nick?.dataset.nick) openMenu(nick, this.page.people.actionsFor(nick.dataset.nick));
    else if (target.closest(".more, time")) this.#openMenu(item);
  }

  #pressed(event) {
    const { target } = event;
    // The focus returns from a menu to its button.
    const item = target.matches(`${ITEMS}, .more, .nick`) ? target.closest(ITEMS) : null;
    if (!item && target !== this.#box) return;
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const items = () => [...this.#list.querySelectorAll(ITEMS)];
    if (["ArrowUp", "ArrowDown"].includes(event.key)) {
      const all = items();
      // From the box, Up goes to the last message that is visible.
      const at = item ? all.indexOf(item) + (event.key === "ArrowUp" ? -1 : 1) : all.findLastIndex((each) => this.#isVisible(each));
      if (!item && event.key === "ArrowDown") return;
      all[at]?.focus();
    } else if (item === target && ["Enter", "ContextMenu"].includes(event.key)) {
      this.#openMenu(item);
    } else if (item && event.key === "Escape") {
      document.getElementById("input").focus();
    } else {
      return;
    }
    event.preventDefault();
  }

  #isVisible(item) {
    return item.getBoundingClientRect().top < this.#box.getBoundingClientRect().bottom;
  }

  #openMenu(item) {
    const { page } = this;
    const message = page.log.messageAt(item);
    const button = item.querySelector(".more");
    if (!message || !button || message.kind === "redacted") return;
    const link = `${location.origin}${location.pathname}#${message.offset}`;
    openMenu(button, [
      [
        { label: "Reply with a quote", act: () => page.composer.quote(message) },
        { label: "Copy text", act: () => copyText(message.text) },
        { label: "Copy link", act: () => copyText(link) },
        { label: "Open link", act: () => open(link, "_blank", "noopener") },
      ],
      [{ label: `About ${message.nick}…`, act: () => openMenu(item.querySelector(".nick"), page.people.actionsFor(message.nick)) }],
      page.link.welcome?.operator ? [{ label: "Remove message", act: () => act(page, { type: "redact", offset: message.offset }) }] : [],
    ]);
  }

  /** Copy several messages as lines with times and nicks, and what is below them indented. */
  #copied(event) {
    const selection = getSelection();
    if (!selection.rangeCount) return;
    const range = selection.getRangeAt(0);
    const items = [...this.#list.children].filter((item) => !item.hidden && range.intersectsNode(item));
    if (items.length < 2) return;
    event.clipboardData.setData("text/plain", items.map((item) => this.#textOf(item, range)).filter(Boolean).join("\n"));
    event.preventDefault();
  }

  #textOf(item, range) {
    const body = item.querySelector(".text");
    if (!body) return item.textContent.trim();
    const part = document.createRange();
    part.selectNodeContents(body);
    if (range.compareBoundaryPoints(Range.START_TO_START, part) > 0) part.setStart(range.startContainer, range.startOffset);
    if (range.compareBoundaryPoints(Range.END_TO_END, part) < 0) part.setEnd(range.endContainer, range.endOffset);
    const copy = part.cloneContents();
    for (const button of copy.querySelectorAll("button")) button.remove();
    const text = copy.textContent.trimEnd().replaceAll("\n", "\n    ");
    const head = item.querySelector(".head").cloneNode(true);
    head.querySelector("time")?.remove();
    const moment = item.querySelector("time")?.dateTime;
    return text && `${moment ? `[${clockText(Date.parse(moment) / 1000)}] ` : ""}${head.textContent}${text}`;
  }
}
