// What the user pastes and drops.

// Lines of a text from which it becomes a block.
const BLOCK = 3;
const FENCE = /^```/gmu;

/** What to insert for a pasted text, between the texts before and after the caret. */
export function pasted(text, before, after) {
  const clean = text.replace(/\r\n?/gu, "\n").trimEnd().replace(/^(?:[ \t]*\n)+/u, "");
  const inBlock = (before.match(FENCE) ?? []).length % 2 === 1;
  // A command takes the text as it is, and so does a text that has blocks of its own.
  if (clean.split("\n").length < BLOCK || inBlock || /^\/(?!\/)/u.test(before) || clean.includes("```")) return text;
  const head = before && !before.endsWith("\n") ? "\n" : "";
  return `${head}\`\`\`\n${clean}\n\`\`\`${after.startsWith("\n") ? "" : "\n"}`;
}

/** Call `refuse()` for files that are dropped on the page, which the browser would open instead of it. */
export function watchDrops(refuse) {
  const hasFiles = ({ dataTransfer }) => dataTransfer?.types.includes("Files");
  addEventListener("dragover", (event) => {
    if (hasFiles(event)) event.preventDefault();
  });
  addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    refuse();
  });
}
