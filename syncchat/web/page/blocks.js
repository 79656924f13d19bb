// Divides the text of a message into paragraphs, quotes and code.

const FENCE = /^```[\w+#.-]*\s*$/u;
const INDENTED = /^(?: {4}|\t)/u;
const TRACEBACK = "Traceback (most recent call last):";

/** The blocks of a text: `{kind, text}`; `kind` is text, quote or code. Linear in time. */
export function blocksOf(text) {
  const lines = text.split("\n");
  const blocks = [];
  for (let at = 0; at < lines.length;) {
    const [kind, from, to, next] = blockAt(lines, at);
    const body = lines.slice(from, to);
    const last = blocks.at(-1);
    if (kind === "text" && last?.kind === "text") last.lines.push(...body);
    else blocks.push({ kind, lines: kind === "quote" ? body.map((line) => line.slice(2)) : body });
    at = next;
  }
  return blocks
    .map(({ kind, lines: body }) => ({ kind, text: kind === "text" ? trimmed(body, blocks.length > 1) : body.join("\n") }))
    .filter(({ kind, text: body }) => kind !== "text" || body || blocks.length === 1);
}

/** The block at a line: its kind, its first line, the line behind its last, and the line to go on with. */
function blockAt(lines, at) {
  if (FENCE.test(lines[at])) {
    const close = lines.findIndex((line, index) => index > at && line.trimEnd() === "```");
    // A message that is cut has no closing fence.
    return close < 0 ? ["code", at + 1, lines.length, lines.length] : ["code", at + 1, close, close + 1];
  }
  if (lines[at] === TRACEBACK) {
    let end = at + 1;
    while (lines[end]?.startsWith("  ")) end += 1;
    if (end > at + 1) return ["code", at, Math.min(end + 1, lines.length), Math.min(end + 1, lines.length)];
  }
  if (INDENTED.test(lines[at])) {
    let end = at + 1;
    while (end < lines.length && INDENTED.test(lines[end])) end += 1;
    return [end - at > 1 ? "code" : "text", at, end, end];
  }
  if (lines[at].startsWith("> ")) {
    let end = at + 1;
    while (lines[end]?.startsWith("> ")) end += 1;
    return ["quote", at, end, end];
  }
  return ["text", at, at + 1, at + 1];
}

/** A paragraph beside other blocks needs no empty lines at its ends. */
function trimmed(lines, beside) {
  const text = lines.join("\n");
  return beside ? text.replace(/^\n+/u, "").trimEnd() : text;
}
