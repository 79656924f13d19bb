// Turns what people write into nodes of the page, never into markup.

// Inline code, or a URL. Each alternative is linear in time.
const SPECIAL = /(`{1,3})([^`\n]+)\1|\bhttps?:\/\/[^\s<>"'`]+/giu;
// Characters behind a URL that usually belong to the sentence.
const BEHIND = ".,;:!?…";
// More combining marks on one letter than languages need: drawing them takes a browser seconds.
const PILE = /([\p{M}\p{Cf}]{8})[\p{M}\p{Cf}]+/gu;
const BRACKETS = { ")": "(", "]": "[" };
// Links and pieces of code, and marks, of one message; the rest stays plain text.
const LINKS = 50, MARKS = 50;
// Nick colours in style.css.
const COLOURS = 16;

/** Make an element with a class and children, each a node or a text. */
export function element(name, className = "", ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

/** The text without piles of combining marks. */
export function thinned(text) {
  return text.replace(PILE, "$1");
}

/** How many links and marks a message may still have. */
export function budget() {
  return { links: LINKS, marks: MARKS };
}

/**
 * `said` as nodes: URLs become links, text in backticks becomes code, and what the regular
 * expression `wanted` finds is marked; null marks nothing. `left` is counted down.
 */
export function rich(said, wanted, left = budget()) {
  const text = thinned(said);
  const nodes = [];
  let done = 0;
  for (const found of text.matchAll(SPECIAL)) {
    if (!left.links) break;
    const code = found[2] !== undefined;
    const shown = code ? found[0] : trimmed(found[0]);
    const made = code ? element("code", "", found[2]) : linkTo(shown);
    if (!made) continue;
    left.links -= 1;
    nodes.push(...marked(text.slice(done, found.index), wanted, left), made);
    done = found.index + shown.length;
  }
  nodes.push(...marked(text.slice(done), wanted, left));
  return nodes;
}

/** A regular expression that finds each of the words where it is a whole word; null: there are none. */
export function wholeWords(words) {
  const literals = words.filter(Boolean).sort((one, two) => two.length - one.length)
    .map((word) => word.replace(/[\\^$.*+?()[\]{}|/]/gu, "\\$&"));
  if (!literals.length) return null;
  return new RegExp(`(?<![\\p{L}\\p{N}_])(?:${literals.join("|")})(?![\\p{L}\\p{N}_])`, "giu");
}

/** The colour of a nick, for style sheets: always the same, in upper or lower case. */
export function colourOf(nick) {
  let hash = 0x811c9dc5; // FNV-1a
  for (const char of nick.toLowerCase()) {
    hash = Math.imul(hash ^ char.codePointAt(0), 0x01000193) >>> 0;
  }
  // The last bits of the hash differ least.
  return `var(--nick-${((hash ^ (hash >>> 16)) >>> 0) % COLOURS})`;
}

/** A nick in its colour, apart from the direction of the text around it. */
export function nickOf(nick) {
  const made = element("bdi", "nick", nick);
  made.style.setProperty("color", colourOf(nick));
  return made;
}

/** Remove an item of a list. If it has the focus, its neighbour gets it. */
export function removeItem(item) {
  const had = item.contains(document.activeElement);
  const beside = item.nextElementSibling ?? item.previousElementSibling;
  item.remove();
  if (had) (beside?.querySelector("button") ?? document.getElementById("input")).focus();
}

/** The URL without what follows it. One pass from the end, since a URL may be very long. */
function trimmed(address) {
  const surplus = {};
  for (const [close, open] of Object.entries(BRACKETS)) {
    surplus[close] = address.split(close).length - address.split(open).length;
  }
  let end = address.length;
  for (; end > 0; end -= 1) {
    const last = address[end - 1];
    // A closing bracket without an opening one in the URL belongs to the sentence.
    if (surplus[last] > 0) surplus[last] -= 1;
    else if (!BEHIND.includes(last)) break;
  }
  return address.slice(0, end);
}

function linkTo(address) {
  let url;
  try {
    url = new URL(address);
  } catch {
    return null; // Not a valid URL.
  }
  // A user name before the host is used to deceive: https://bank.example@evil.example.
  if (url.username || url.password) return null;
  const link = element("a", "", address);
  link.href = url.href;
  link.target = "_blank";
  link.rel = "noopener noreferrer nofollow ugc";
  return link;
}

function marked(text, wanted, left) {
  if (!text || !wanted) return text ? [text] : [];
  const nodes = [];
  let done = 0;
  for (const found of text.matchAll(wanted)) {
    if (!left.marks) break;
    left.marks -= 1;
    nodes.push(text.slice(done, found.index), element("mark", "", found[0]));
    done = found.index + found[0].length;
  }
  nodes.push(text.slice(done));
  return nodes;
}
