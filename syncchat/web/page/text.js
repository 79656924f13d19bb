// Turns what people write into nodes of the page, never into markup.

const ADDRESS = /\bhttps?:\/\/[^\s<>"'`]+/giu;
// Characters behind a URL that usually belong to the sentence.
const BEHIND = ".,;:!?…";
// More combining marks on one letter than languages need: drawing them takes a browser seconds.
const PILE = /([\p{M}\p{Cf}]{8})[\p{M}\p{Cf}]+/gu;
const BRACKETS = { ")": "(", "]": "[" };
const INLINE_CODE = /(`{1,2})([^`\n]+)\1/gu;
// Links and marks in one message, at most: thousands of them block the page.
const MOST = 50;
// Colours of nicks; style.css has them for both themes.
const COLOURS = 16;

/** Make an element with a class and children, each a node or a text. */
export function element(name, className = "", ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

/**
 * `said` as nodes: URLs become links, text in backticks becomes code, and `words` are marked where
 * they are whole words.
 */
export function rich(said, words = []) {
  const text = said.replace(PILE, "$1");
  const budget = { links: MOST, marks: MOST };
  const nodes = [];
  let done = 0;
  for (const found of text.matchAll(INLINE_CODE)) {
    nodes.push(...linked(text.slice(done, found.index), words, budget), element("code", "", found[2]));
    done = found.index + found[0].length;
    if (nodes.length > 4 * MOST) break;
  }
  nodes.push(...linked(text.slice(done), words, budget));
  return nodes;
}

/** The number of the colour of a nick: always the same, in upper or lower case. */
export function colourOf(nick) {
  let hash = 0x811c9dc5; // FNV-1a
  for (const char of nick.toLowerCase()) {
    hash = Math.imul(hash ^ char.codePointAt(0), 0x01000193) >>> 0;
  }
  return ((hash ^ (hash >>> 16)) >>> 0) % COLOURS;
}

/** A nick in its colour. */
export function nickOf(nick) {
  const made = element("bdi", "nick", nick);
  made.style.setProperty("color", `var(--nick-${colourOf(nick)})`);
  return made;
}

/** A pattern for the first of `words` that is a whole word; null: there are no words. */
export function wholeWords(words) {
  const literals = words.filter(Boolean).map((word) => word.replace(/[\\^$.*+?()[\]{}|/]/gu, "\\$&"));
  if (!literals.length) return null;
  return new RegExp(`(?<![\\p{L}\\p{N}_])(?:${literals.join("|")})(?![\\p{L}\\p{N}_])`, "giu");
}

function linked(text, words, budget) {
  const nodes = [];
  let done = 0;
  for (const found of budget.links ? text.matchAll(ADDRESS) : []) {
    const shown = trimmed(found[0]);
    const link = linkTo(shown);
    if (!link) continue;
    nodes.push(...marked(text.slice(done, found.index), words, budget), link);
    done = found.index + shown.length;
    if (--budget.links <= 0) break;
  }
  nodes.push(...marked(text.slice(done), words, budget));
  return nodes;
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

function marked(text, words, budget) {
  const pattern = text && budget.marks ? wholeWords(words) : null;
  if (!pattern) return text ? [text] : [];
  const nodes = [];
  let done = 0;
  for (const found of text.matchAll(pattern)) {
    nodes.push(text.slice(done, found.index), element("mark", "", found[0]));
    done = found.index + found[0].length;
    if (--budget.marks <= 0) break;
  }
  nodes.push(text.slice(done));
  return nodes;
}
