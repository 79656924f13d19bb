// Turns what people write into nodes of the page, never into markup.

const ADDRESS = /\bhttps?:\/\/[^\s<>"'`]+/giu;
// Characters behind a URL that usually belong to the sentence.
const BEHIND = ".,;:!?…";
// More combining marks on one letter than languages need: drawing them takes a browser seconds.
const PILE = /([\p{M}\p{Cf}]{8})[\p{M}\p{Cf}]+/gu;
const BRACKETS = { ")": "(", "]": "[" };
const COLOURS = [
  "#af5f5f", "#d75f5f", "#d75f00", "#af5f00", "#878700", "#5f8700", "#008700", "#00875f",
  "#008787", "#0087af", "#0087d7", "#5f87af", "#5f87d7", "#5f5fff", "#875fff", "#875fd7",
  "#af5fff", "#af5fd7", "#af5faf", "#d700af", "#d75faf", "#d75f87",
];

/** Make an element with a class and children, each a node or a text. */
export function element(name, className = "", ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

/** `said` as nodes: URLs become links, and `nick` is marked where it is a whole word. */
export function rich(said, nick) {
  const text = said.replace(PILE, "$1");
  const nodes = [];
  let done = 0;
  for (const found of text.matchAll(ADDRESS)) {
    const shown = trimmed(found[0]);
    const link = linkTo(shown);
    if (!link) continue;
    nodes.push(...marked(text.slice(done, found.index), nick), link);
    done = found.index + shown.length;
  }
  nodes.push(...marked(text.slice(done), nick));
  return nodes;
}

/** The colour of a nick: always the same, in upper or lower case. */
export function colourOf(nick) {
  let hash = 0x811c9dc5; // FNV-1a
  for (const char of nick.toLowerCase()) {
    hash = Math.imul(hash ^ char.codePointAt(0), 0x01000193) >>> 0;
  }
  return COLOURS[hash % COLOURS.length];
}

/** A nick in its colour. */
export function nickOf(nick) {
  const made = element("span", "nick", nick);
  made.style.setProperty("color", colourOf(nick));
  return made;
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

function marked(text, nick) {
  if (!text || !nick) return text ? [text] : [];
  const nodes = [];
  let done = 0;
  for (const found of text.matchAll(wholeWord(nick))) {
    nodes.push(text.slice(done, found.index), element("mark", "", found[0]));
    done = found.index + found[0].length;
  }
  nodes.push(text.slice(done));
  return nodes;
}

function wholeWord(nick) {
  const literal = nick.replace(/[\\^$.*+?()[\]{}|/]/gu, "\\$&");
  return new RegExp(`(?<![\\p{L}\\p{N}_])${literal}(?![\\p{L}\\p{N}_])`, "giu");
}
