// The input: what is typed, pasted and recalled, and the drafts of the rooms.

import { Candidates } from "./candidates.js";
import { completions, isRoomAt } from "./completion.js";
import { Drafts } from "./drafts.js";
import { pasted, watchDrops } from "./pasting.js";
import { Quote } from "./quote.js";
import { TypedHistory } from "./typed_history.js";

// Milliseconds between two writes of the draft.
const PAUSE = 300;
// The part of the server's limit from which the size is shown, and how many times it a pasted text
// may have in characters: a longer one would block the page.
const NEAR = 0.8, MOST_PASTED = 4;
// Where typed letters do something else.
const TAKEN = "button, a[href], input, textarea, select, summary, dialog, [contenteditable], [role=menu], [role=menuitem], [role=option]";

/**
 * `enter(line)` acts on a line, and returns whether to clear the input. `words` has
 * `people`, the nicks of the others, the one that spoke last first, `speakers`, those of them that
 * have spoken, `rooms`, and `known`: the server has told its rooms. `askRooms()`
 * asks the server for the rooms, and returns whether there is a connection. `complain(text)` shows a
 * line. `size(text)` is the size of a message, `limit()` the server's limit, both in bytes. `base`: the
 * path of the server, which ends with a slash.
 */
export class Composer {
  #form = document.getElementById("composer");
  #input = document.getElementById("input");
  #size = document.getElementById("size");
  #partnerBar = document.getElementById("partner");
  #candidates = new Candidates(this.#input, (choice) => this.#choose(choice));
  #quote = new Quote(() => {
    this.#changed();
    this.focus();
  });
  #history;
  #drafts;
  #room = null;
  #from = 0; // Where the word begins that the candidates complete.
  #wanted = false; // The user has typed the `@` of the candidates.
  #tabbed = false; // The user has pressed Tab where a room is expected, when none was known.
  #timer = 0; // The next write of the draft; 0: it is written.
  #silent = false; // The user cannot speak in the room.
  #partner = "";

  constructor({ enter, words, askRooms, complain, size, limit, base }) {
    Object.assign(this, { enter, words, askRooms, complain, size, limit });
    this.#history = new TypedHistory(base);
    this.#drafts = new Drafts(base);
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    // While an input method composes a word, the keys are its own; Safari tells it by the code 229 only.
    this.#input.addEventListener("keydown", (event) => event.isComposing || event.keyCode === 229 || this.#pressed(event));
    this.#input.addEventListener("input", () => this.#typed());
    this.#input.addEventListener("paste", (event) => this.#pasted(event));
    this.#input.addEventListener("blur", () => this.#candidates.close());
    this.#partnerBar.querySelector("button").addEventListener("click", () => {
      this.enter("/query");
      this.focus();
    });
    watchDrops(() => this.#refuseFiles());
    document.addEventListener("keydown", (event) => this.#redirect(event));
    document.addEventListener("paste", (event) => {
      if (!isTaken(event.target)) this.#pasted(event, true);
    });
    addEventListener("pagehide", () => this.#save());
  }

  focus() {
    this.#input.focus();
  }

  /** Put a text at the caret. */
  insert(text) {
    this.focus();
    this.#put(text);
  }

  /** Begin a reply to a message: `{nick, text, offset}`. */
  quote({ nick, text, offset }) {
    this.#quote.show({ nick, text, offset });
    this.#changed();
    this.focus();
  }

  /** Put a line back that the server has refused, unless the user has typed something else. */
  restore(line) {
    if (this.#input.value || this.#quote.quoted) return;
    this.#set(line);
  }

  /** The user has entered a room: keep the draft of the one before, and continue the one of this one. */
  moveTo(room) {
    if (room === this.#room) return;
    const typed = this.#room === null ? this.#input.value : "";
    this.#save();
    if (this.#room !== null) this.partner = "";
    this.#room = room;
    this.#history.moveTo(room);
    const { text, quoted } = this.#drafts.read(room);
    this.#quote.show(quoted);
    // What was typed while the page was loading comes behind the draft.
    this.#set([text, typed].filter(Boolean).join("\n"));
    if (!typed) this.#saved();
    this.#hint();
  }

  /** Whether the user cannot speak in the room. */
  get silent() {
    return this.#silent;
  }

  set silent(silent) {
    this.#silent = silent;
    this.#hint();
  }

  /** The person to whom plain lines go; empty: they go to the room. */
  get partner() {
    return this.#partner;
  }

  set partner(nick) {
    this.#partner = nick;
    this.#partnerBar.hidden = !nick;
    this.#partnerBar.querySelector("bdi").textContent = nick;
    this.#hint();
  }

  /** Offer the rooms, which have come from the server, if the user is typing the name of one. */
  offerRooms() {
    const tabbed = this.#tabbed;
    this.#tabbed = false;
    if (!isRoomAt(this.#before) || document.activeElement !== this.#input) return;
    if (tabbed && this.words.known) this.#tab();
    else this.#offer(false);
  }

  get #before() {
    return this.#input.value.slice(0, this.#input.selectionStart);
  }

  #submit() {
    const line = this.#input.value.trimEnd();
    this.#candidates.close();
    this.focus();
    if (!line.trim()) return;
    // A command stands for itself, and the reply is still to come.
    const isCommand = /^\s*\/(?!\/)/u.test(line);
    const { quoted } = this.#quote;
    const text = quoted && !isCommand ? this.#quote.before(line.replace(/^\/\//u, "/")) : line;
    if (!this.enter(text)) return;
    this.#history.add(line);
    if (!isCommand) this.#quote.show(null);
    this.#set("");
    this.#save();
  }

  #pressed(event) {
    const { key, shiftKey } = event;
    const plain = !shiftKey && !event.altKey && !event.ctrlKey && !event.metaKey;
    const list = this.#candidates;
    if (key === "Enter" && !shiftKey) {
      event.preventDefault();
      if (list.open && (list.moved || this.#wanted)) this.#choose(list.marked);
      else this.#form.requestSubmit();
    } else if (key === "Tab" && plain) {
      if (this.#tab()) event.preventDefault();
    } else if (key === "Tab") {
      list.close(); // It can be scrolled, so the focus would stop at it.
    } else if (list.open && plain && ["ArrowDown", "ArrowUp"].includes(key)) {
      event.preventDefault();
      list.move(key === "ArrowDown" ? 1 : -1);
    } else if (key === "Escape" && (list.open || this.#quote.quoted)) {
      event.preventDefault();
      event.stopPropagation();
      if (list.open) {
        list.close();
      } else {
        this.#quote.show(null);
        this.#changed();
      }
    } else if (plain && ["ArrowDown", "ArrowUp"].includes(key)) {
      this.#recall(key === "ArrowDown" ? 1 : -1);
    }
  }

  /** Take the marked candidate, or offer some. Returns whether there are any. */
  #tab() {
    const list = this.#candidates;
    if (list.open) {
      this.#choose(list.marked);
      return true;
    }
    if (isRoomAt(this.#before) && !this.words.known) {
      this.#tabbed = this.askRooms();
      return this.#tabbed;
    }
    const choices = this.#offer(true);
    if (choices.length === 1) this.#choose(choices[0]);
    // The user has asked for the list, so Enter takes from it.
    else list.moved = choices.length > 0;
    return choices.length > 0;
  }

  #typed() {
    this.#history.edited();
    const before = this.#before;
    if (isRoomAt(before) && (!this.words.known || /[\s#]$/u.test(before))) this.askRooms();
    this.#offer(false);
    this.#changed();
  }

  /** The text has changed: fit the input to it, and write the draft soon. */
  #changed() {
    const { style } = this.#input;
    style.setProperty("height", "auto");
    style.setProperty("height", `${this.#input.scrollHeight + 2}px`);
    this.#showSize();
    // A command is no sentence: no capital letters, and no corrections.
    const isCommand = this.#input.value.startsWith("/");
    this.#input.autocapitalize = isCommand ? "none" : "sentences";
    this.#input.setAttribute("autocorrect", isCommand ? "off" : "on");
    this.#input.spellcheck = !isCommand;
    this.#showSilence();
    this.#timer ||= setTimeout(() => this.#save(), PAUSE);
  }

  #offer(tab) {
    const { from, choices, wanted } = completions(this.#before, this.words, tab);
    this.#from = from;
    this.#wanted = wanted;
    this.#candidates.show(choices);
    return choices;
  }

  #choose({ put }) {
    this.#candidates.close();
    this.#input.setSelectionRange(this.#from, this.#input.selectionStart);
    this.#put(put);
    // Behind a command, the name of a room or a person may follow.
    if (!put.startsWith("/")) this.#candidates.close();
  }

  /** Replace the selection, so that the browser can undo it. */
  #put(text) {
    const { selectionStart, selectionEnd } = this.#input;
    if (document.execCommand("insertText", false, text)) return;
    this.#input.setRangeText(text, selectionStart, selectionEnd, "end");
    this.#typed();
  }

  /** Replace everything. */
  #set(text) {
    this.#input.value = text;
    this.#input.setSelectionRange(text.length, text.length);
    this.#candidates.close();
    this.#changed();
  }

  /** Show a sent line if the caret cannot go further up or down. */
  #recall(by) {
    const { value, selectionStart: from, selectionEnd: to } = this.#input;
    const beyond = by < 0 ? value.slice(0, from) : value.slice(to);
    if (from !== to || beyond.includes("\n")) return;
    // The browser moves the caret first: a long line has several rows.
    setTimeout(() => {
      const at = this.#input.selectionStart;
      if (at !== from && at !== (by < 0 ? 0 : value.length)) return;
      const line = this.#history.step(by, value);
      if (line !== null) this.#set(line);
    });
  }

  // Pasting.

  #pasted(event, fromElsewhere = false) {
    const text = event.clipboardData.getData("text/plain");
    if (!text) {
      if (event.clipboardData.files.length) {
        event.preventDefault();
        this.#refuseFiles();
      }
      return;
    }
    const { value, selectionStart, selectionEnd } = this.#input;
    const limit = this.limit();
    if (text.length > MOST_PASTED * limit) {
      event.preventDefault();
      this.complain(`Not pasted: the text has ${text.length.toLocaleString()} characters, and a message at most ${limit.toLocaleString()} bytes.`);
      return;
    }
    const put = pasted(text, value.slice(0, selectionStart), value.slice(selectionEnd));
    if (put === text && !fromElsewhere) return;
    event.preventDefault();
    this.insert(put);
  }

  #refuseFiles() {
    this.complain("Files and images cannot be sent here. Paste text, or the link of a file.");
  }

  /** Letters that are typed while nothing takes them go to the input. */
  #redirect(event) {
    const { key, target, defaultPrevented, ctrlKey, altKey, metaKey } = event;
    const isLetter = key.length === 1 && key !== " " && (!(ctrlKey || altKey || metaKey) || event.getModifierState("AltGraph"));
    if (isLetter && !defaultPrevented && !isTaken(target)) this.focus();
  }

  // Drafts.

  #save() {
    if (this.#timer && this.#room !== null) this.#drafts.write(this.#room, this.#input.value, this.#quote.quoted);
    this.#saved();
  }

  #saved() {
    clearTimeout(this.#timer);
    this.#timer = 0;
  }

  // What is shown.

  #hint() {
    if (this.#partner) this.#input.placeholder = `Private message to ${this.#partner}`;
    else if (this.#silent) this.#input.placeholder = "You cannot speak in this room: it is read-only";
    else this.#input.placeholder = this.#room === null ? "Message" : `Message #${this.#room}, or /help`;
    this.#showSilence();
  }

  /** A message cannot be sent where the user cannot speak, but a command can. */
  #showSilence() {
    const mute = this.#silent && !this.#partner && !this.#input.value.startsWith("/");
    this.#form.querySelector("[type=submit]").ariaDisabled = mute ? "true" : null;
  }

  /** Show how large the text is when it comes near the limit of the server. */
  #showSize() {
    const { value } = this.#input;
    const limit = this.limit();
    // A character has at most six bytes.
    const size = value.length * 6 > NEAR * limit ? this.size(this.#quote.before(value)) : 0;
    this.#size.hidden = size < NEAR * limit;
    this.#input.ariaInvalid = String(size > limit);
    this.#size.classList.toggle("alarm", size > limit);
    const rest = `${Math.abs(limit - size).toLocaleString()} bytes ${size > limit ? "too long" : "left"}`;
    // It describes the input to screen readers, even while it is hidden.
    this.#size.textContent = this.#size.hidden ? "" : rest;
  }
}

function isTaken(target) {
  return document.querySelector("dialog[open]") !== null || target.closest?.(TAKEN) !== null;
}
