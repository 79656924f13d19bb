// The blocks of a message: text, code and quotes. Code is what stands between lines of three
// backticks, and what is indented, such as a traceback.

import { element, rich } from "./text.js";

const FENCE = /^\s{0,3}```/u;
const INDENTED = /^(?: {2,}|\t)\S/u;
const TRACEBACK = "Traceback (most recent call last):";
const QUOTED = /^> ?/u;

/** The blocks of a text, as `{kind, lines}`; `kind` is text, code or quote. */
function blocksOf(text) {
  const lines = text.split("\n");
  const blocks = [];
  const add = (kind, line) => {
    if (blocks.at(-1)?.kind !== kind) blocks.push({ kind, lines: [] });
    blocks.at(-1).lines.push(line);
  };
  for (let at = 0; at < lines.length; at += 1) {
    const line = lines[at];
    if (FENCE.test(line) && !line.trim().slice(3).includes("```")) {
      const close = lines.findIndex((each, index) => index > at && FENCE.test(each));
      const end = close < 0 ? lines.length : close;
      blocks.push({ kind: "code", lines: lines.slice(at + 1, end) });
      at = end;
    } else if (line === TRACEBACK || (INDENTED.test(line) && INDENTED.test(lines[at + 1] ?? ""))) {
      let end = at + 1;
      while (end < lines.length && INDENTED.test(lines[end])) end += 1;
      // The line behind a traceback says what was raised.
      if (line === TRACEBACK) end += 1;
      blocks.push({ kind: "code", lines: lines.slice(at, end) });
      at = end - 1;
    } else if (QUOTED.test(line)) {
      add("quote", line.replace(QUOTED, ""));
    } else {
      add("text", line);
    }
  }
  return blocks;
}

/** A text as nodes, in which `words` are marked. */
export function bodyOf(text, words) {
  return blocksOf(text).map(({ kind, lines }) => {
    const whole = lines.join("\n");
    if (kind === "code") return codeOf(whole);
    const node = element(kind === "quote" ? "blockquote" : "p", "", ...rich(whole, kind === "quote" ? [] : words));
    node.dir = "auto";
    return node;
  });
}

/** A block of code, with a button that copies it. */
function codeOf(code) {
  const shown = element("pre", "", element("code", "", code));
  shown.tabIndex = 0; // It scrolls sideways.
  shown.role = "region";
  shown.ariaLabel = "Code";
  const copy = element("button", "copy", "Copy");
  copy.type = "button";
  copy.addEventListener("click", async () => {
    copy.textContent = (await copied(code)) ? "Copied" : "Not copied";
    setTimeout(() => { copy.textContent = "Copy"; }, 1500);
  });
  return element("div", "code", shown, copy);
}

/** Copy a text. Returns whether the browser has done it. */
export async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Without TLS there is no clipboard.
    const field = element("textarea", "unseen");
    field.value = text;
    document.body.append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    return done;
  }
}
