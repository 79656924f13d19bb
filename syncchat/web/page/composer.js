// The input, and what is offered above it: completions, and the message to reply to.

import { completions } from "./completion.js";
import { Drafts } from "./drafts.js";
import { element } from "./text.js";

// Lines of a pasted text from which it becomes a block.
const BLOCK = 3;
// Characters of a quoted message.
const QUOTED = 120;
// Bytes before the server's limit from which the rest is shown.
const CLOSE = 2000;

const at = (id) => document.getElementById(id);

export class Composer {
  #input = at("input");
  #candidates = at("candidates");
  #choosing = null; // The completions on offer; null: none.
  #awaiting = false; // Tab was pressed where a room is expected when none was known.
  #quoted = null; // The message that the user replies to.
  #recalled = null; // The place in the lines that were said; null: the user types a new one.
  #drafts;
  #room = null;

  /**
   * `enter(line)` acts on a line, and returns whether to clear the input. `words()` returns the nicks
   * of the others, the one that spoke last first, and the rooms. `askRooms()` asks the server for
   * the rooms, and returns whether there is a connection. `complain(text)` tells the user what is
   * wrong. `limit()` is the server's limit for a message in bytes.
   */
  constructor({ base, enter, words, askRooms, complain, limit }) {
    Object.assign(this, { enter, words, askRooms, complain, limit });
    this.#drafts = new Drafts(base);
    at("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#input.addEventListener("keydown", (event) => event.isComposing || this.#pressed(event));
    this.#input.addEventListener("input", () => this.#typed());
    this.#input.addEventListener("blur", () => this.#close());
    this.#input.addEventListener("paste", (event) => this.#pasted(event, event.clipboardData));
    document.addEventListener("dragover", (event) => event.preventDefault());
    document.addEventListener("drop", (event) => this.#dropped(event));
    at("unquote").addEventListener("click", () => {
      this.#reply(null);
      this.focus();
    });
    document.addEventListener("keydown", (event) => this.#elsewhere(event));
  }

  focus() {
    this.#input.focus();
  }

  /** Put a text at the caret. */
  insert(text) {
    this.focus();
    this.#input.setRangeText(text, this.#input.selectionStart, this.#input.selectionEnd, "end");
    this.#typed();
  }

  /** Say in the empty input what it is for. */
  set hint(text) {
    this.#input.placeholder = text;
  }

  /** Offer the rooms, which have come from the server, if the user waits for them. */
  offerRooms() {
    if (this.#awaiting && this.#input.value.startsWith("/")) this.#offer(true);
    this.#awaiting = false;
  }

  /** The user has come to a room: show the draft for it. */
  moved(room) {
    if (room === this.#room) return;
    const typed = this.#room === null ? this.#input.value : "";
    this.#room = room;
    this.#recalled = null;
    this.#reply(null);
    this.#set(typed || this.#drafts.of(room));
  }

  /** Put a text at the caret. */
  insert(text) {
    this.focus();
    const { selectionStart, selectionEnd } = this.#input;
    this.#put(selectionStart, selectionEnd, text);
  }

  /** Begin a reply to a message. */
  quote(message) {
    this.#reply(message);
    this.focus();
  }

  /** Bring a line back that the server has refused, unless the user types the next one. */
  restore(line) {
    if (line && !this.#input.value) this.#set(line);
  }

  #submit() {
    const line = this.#input.value.trimEnd();
    this.#close();
    if (!line.trim()) return;
    const isCommand = line.startsWith("/") && !line.startsWith("//");
    const isReply = this.#quoted && !isCommand;
    if (this.enter(isReply ? `${quoteOf(this.#quoted)}\n${line}` : line)) {
      if (this.#room !== null) this.#drafts.entered(this.#room, line);
      this.#recalled = null;
      if (isReply) this.#reply(null);
      this.#set("");
    }
    this.focus();
  }

  #pressed(event) {
    const choosing = this.#choosing;
    const { key, shiftKey } = event;
    const hasModifier = event.altKey || event.ctrlKey || event.metaKey;
    if (key === "Enter" && !shiftKey && !event.altKey) {
      event.preventDefault();
      // Enter takes a completion only if the user has chosen it, or has typed @ and a part of a nick.
      if (choosing && (choosing.byHand || choosing.isMention)) this.#choose(choosing.at);
      else this.#submit();
    } else if (key === "Tab" && !shiftKey && !hasModifier) {
      // With nothing to complete, Tab leaves the input.
      if (choosing || (this.#input.value && this.#offer(true))) {
        event.preventDefault();
        if (choosing) this.#choose(choosing.at);
      }
    } else if (choosing && !hasModifier && ["ArrowDown", "ArrowUp"].includes(key)) {
      event.preventDefault();
      this.#move(key === "ArrowDown" ? 1 : -1);
    } else if (key === "Escape" && (choosing || this.#quoted)) {
      event.preventDefault();
      if (choosing) this.#close();
      else this.#reply(null);
    } else if (!hasModifier && !shiftKey && (key === "ArrowUp" || key === "ArrowDown")) {
      if (this.#recall(key === "ArrowUp" ? -1 : 1)) event.preventDefault();
    }
  }

  /** Show the line that was said before, or after, the shown one. Returns whether there is one. */
  #recall(by) {
    const { value, selectionStart, selectionEnd } = this.#input;
    const said = this.#drafts.said(this.#room);
    const isAtEdge = by < 0 ? !value.slice(0, selectionStart).includes("\n") : !value.slice(selectionEnd).includes("\n");
    if (!isAtEdge || (this.#recalled === null && by > 0)) return false;
    // The line that is not sent yet is the last one.
    this.#recalled ??= { at: said.length, lines: [...said, value] };
    const next = this.#recalled.at + by;
    if (!(next in this.#recalled.lines)) return by > 0;
    this.#recalled.lines[this.#recalled.at] = value;
    this.#recalled.at = next;
    this.#set(this.#recalled.lines[next]);
    return true;
  }

  #typed() {
    const { value } = this.#input;
    this.#fit();
    if (this.#room !== null) this.#drafts.set(this.#room, value);
    if (/^\/(?:join|j|room) $/u.test(value) || /(?:^|\s)#$/u.test(value)) this.askRooms();
    this.#offer(false);
  }

  /** A key that is typed while the focus is at the messages goes to the input. */
  #elsewhere({ key, target, altKey, ctrlKey, metaKey, isComposing }) {
    const isAtMessages = target === document.body || target.closest("#talk");
    if (!isAtMessages || target.closest("button, a, pre, input")) return;
    if ([...key].length === 1 && key !== " " && !altKey && !ctrlKey && !metaKey && !isComposing) this.focus();
  }

  #pasted(event, data) {
    if (data.files.length && !data.types.includes("text/plain")) {
      event.preventDefault();
      this.complain("Files and pictures cannot be sent. Paste a link to them.");
      return;
    }
    const text = data.getData("text/plain").replace(/\r\n?/gu, "\n");
    const { value, selectionStart, selectionEnd } = this.#input;
    const isInBlock = value.slice(0, selectionStart).split("```").length % 2 === 0;
    if (text.trimEnd().split("\n").length < BLOCK || text.includes("```") || isInBlock || value.startsWith("/")) return;
    event.preventDefault();
    const begin = selectionStart === 0 || value[selectionStart - 1] === "\n" ? "" : "\n";
    this.#put(selectionStart, selectionEnd, `${begin}\`\`\`\n${text.replace(/\n+$/u, "")}\n\`\`\`\n`);
  }

  #dropped(event) {
    event.preventDefault();
    const text = event.dataTransfer.getData("text/plain");
    if (text) this.insert(text);
    else this.complain("Files and pictures cannot be sent. Paste a link to them.");
  }

  #reply(message) {
    this.#quoted = message;
    at("quoted").hidden = !message;
    if (message) at("quoted").firstElementChild.textContent = `Reply to ${quoteOf(message).slice(2)}`;
  }

  // The text.

  #set(text) {
    this.#input.value = text;
    this.#input.setSelectionRange(text.length, text.length);
    this.#close();
    this.#fit();
    if (this.#room !== null) this.#drafts.set(this.#room, text);
  }

  #put(from, to, text) {
    this.#input.setSelectionRange(from, to);
    // Unlike setRangeText, it can be undone.
    if (!document.execCommand("insertText", false, text)) {
      this.#input.setRangeText(text, from, to, "end");
      this.#typed();
    }
  }

  #fit() {
    this.#input.style.setProperty("height", "auto");
    this.#input.style.setProperty("height", `${this.#input.scrollHeight + 2}px`);
    const rest = this.#input.value.length > CLOSE ? this.limit() - new TextEncoder().encode(JSON.stringify(this.#input.value)).length : CLOSE;
    at("left").hidden = rest >= CLOSE;
    at("left").textContent = rest < 0 ? `${-rest} bytes too long` : `${rest} bytes left`;
  }

  // The completions.

  /** Offer completions. On Tab, insert the only one at once. Returns whether there are some. */
  #offer(byTab) {
    const words = this.words();
    const { value, selectionStart } = this.#input;
    if (byTab && !words.known && /^\/(?:join|j|room) /u.test(value)) {
      this.#awaiting = this.askRooms();
      if (this.#awaiting) return true;
    }
    const { from, choices, exact } = completions(value.slice(0, selectionStart), words, byTab);
    // A word that is complete needs no offer while typing.
    const isShown = choices.length && (byTab || !exact);
    this.#choosing = isShown ? { from, choices, at: 0, byHand: byTab, isMention: value[from] === "@" && !exact } : null;
    if (byTab && choices.length === 1) this.#choose(0);
    else this.#show();
    return choices.length > 0;
  }

  #choose(index) {
    const { from, choices } = this.#choosing;
    this.#choosing = null;
    this.#put(from, this.#input.selectionStart, choices[index].put);
    this.#close();
  }

  #move(by) {
    const choosing = this.#choosing;
    // The first ArrowDown only chooses the candidate that is marked already.
    if (choosing.byHand || by < 0) choosing.at = (choosing.at + by + choosing.choices.length) % choosing.choices.length;
    choosing.byHand = true;
    this.#show();
  }

  #show() {
    const list = this.#candidates, choosing = this.#choosing;
    const before = list.hidden ? 0 : list.childElementCount;
    list.hidden = !choosing;
    this.#input.ariaExpanded = String(Boolean(choosing));
    this.#input.removeAttribute("aria-activedescendant");
    if (!choosing) {
      if (before) at("announced").textContent = "";
      return;
    }
    const { choices } = choosing;
    list.replaceChildren(...choices.map(({ shown, hint }, index) => {
      const item = element("li", "", element("bdi", "", shown), ...(hint ? [" ", element("small", "", hint)] : []));
      item.id = `candidate-${index}`;
      item.role = "option";
      item.ariaSelected = String(index === choosing.at);
      item.addEventListener("pointerdown", (event) => {
        event.preventDefault();
        this.#choose(index);
      });
      return item;
    }));
    if (before !== choices.length) at("announced").textContent = `${choices.length} ${choices.length === 1 ? "completion" : "completions"}`;
    this.#input.setAttribute("aria-activedescendant", `candidate-${choosing.at}`);
    list.children[choosing.at].scrollIntoView({ block: "nearest" });
  }

  #close() {
    this.#choosing = null;
    this.#show();
  }
}

/** The first line of a reply: the beginning of the message that it replies to. */
function quoteOf({ nick, text }) {
  const line = text.replace(/\s+/gu, " ").trim();
  return `> ${nick}: ${[...line].length > QUOTED ? `${[...line].slice(0, QUOTED).join("")}…` : line}`;
}
