"""How text looks: colors, highlights, and lines that are broken between words."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from hashlib import sha1

from prompt_toolkit.output import ColorDepth
from prompt_toolkit.styles import Style
from prompt_toolkit.utils import get_cwidth

__all__ = [
    "COLOR_CHOICES",
    "STYLE",
    "Fragment",
    "color_depth",
    "mark",
    "shorten",
    "style_of",
    "width_of",
    "wrap",
]

#: A style of prompt_toolkit, and a text in that style.
Fragment = tuple[str, str]

#: A newline, other white space, or a part of a word.
_PIECES = re.compile(r"\n|[^\S\n]+|\S+")

#: Marks a URL, which is not broken, so that it can be copied.
_ADDRESS = "://"

#: Replaces a tab, whose width on the terminal is unknown.
_TAB = "    "

#: Those of the usual 256 terminal colors that have a contrast of at least 3:1 (WCAG
#: 2.2, 1.4.11) to black, to white, and to the backgrounds of common themes.
_NICKS = (
    "#af5f5f", "#d75f5f", "#d75f00", "#af5f00", "#878700", "#5f8700", "#008700", "#00875f",
    "#008787", "#0087af", "#0087d7", "#5f87af", "#5f87d7", "#5f5fff", "#875fff", "#875fd7",
    "#af5fff", "#af5fd7", "#af5faf", "#d700af", "#d75faf", "#d75f87",
)  # fmt: skip

STYLE = Style.from_dict(
    {
        "notice": "dim",
        "time": "dim",
        "pending": "dim italic",
        "warning": "#d75f00",
        "private": "#af5faf",
        "mention": "bold reverse",
        "match": "bold underline",
        "prompt": "bold",
        "question": "bold #d75f00",
        "toolbar": "reverse",
        "toolbar.warning": "bold",
        "toolbar.current": "bold underline",
        "rule": "bold",
        "candidate.current": "bold underline",
    }
)

COLOR_CHOICES = ("auto", "always", "never")


# Colors.


@lru_cache(1024)
def style_of(nick: str) -> str:
    """Return the style of a nick. It depends only on the nick, ignoring case."""
    digest = sha1(nick.casefold().encode("utf-8", "replace"), usedforsecurity=False).digest()
    return _NICKS[int.from_bytes(digest[:4]) % len(_NICKS)]


def color_depth(choice: str) -> ColorDepth | None:
    """Return the color depth for one of ``COLOR_CHOICES``; None: let prompt_toolkit decide.

    In that case, prompt_toolkit obeys ``NO_COLOR`` (no-color.org).
    """
    if choice == "never":
        return ColorDepth.MONOCHROME
    if choice == "always":
        true_color = os.environ.get("COLORTERM") in ("truecolor", "24bit")
        return ColorDepth.TRUE_COLOR if true_color else ColorDepth.DEFAULT
    return None


# Highlights.


def mark(
    text: str, nick: str, words: Sequence[str] = (), marked: Sequence[str] = ()
) -> list[Fragment]:
    """Return ``text`` with highlights. Ignores case.

    ``class:mention`` is the nick, or one of ``marked``, as a whole word. ``class:match`` is
    a word that begins with one of ``words``.
    """
    folded = text.casefold()
    # The substring test is cheap, and most texts fail it.
    found = [
        ("class:mention", _whole(sought))
        for sought in (nick.casefold(), *map(str.casefold, marked))
        if sought and sought in folded
    ]
    if words:
        found += [("class:match", _beginning(word.casefold())) for word in words if word]
    if not found:
        return [("", text)]
    spans = sorted(
        (match.start(), match.end(), style)
        for style, pattern in found
        for match in pattern.finditer(folded)
    )
    if not spans:
        return [("", text)]
    # Casefolding may lengthen a text: map each folded character to its origin.
    if len(folded) == len(text):
        place = list(range(len(text) + 1))
    else:
        place = [at for at, char in enumerate(text) for _ in char.casefold()] + [len(text)]
    parts: list[Fragment] = []
    done = 0
    for start, end, style in spans:
        begin, stop = place[start], place[end - 1] + 1
        if begin < done:
            continue
        if begin > done:
            parts.append(("", text[done:begin]))
        parts.append((style, text[begin:stop]))
        done = stop
    if done < len(text):
        parts.append(("", text[done:]))
    return parts


def _whole(folded: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(folded)}(?!\w)")


def _beginning(folded: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(folded)}\w*")


# Lines.


def width_of(text: str) -> int:
    """Return the number of columns that ``text`` takes."""
    return len(text) if text.isascii() else get_cwidth(text)


def shorten(text: str, columns: int) -> str:
    """Return ``text``, cut off with an ellipsis if it takes more than ``columns``."""
    if width_of(text) <= columns:
        return text
    taken, kept = 1, []
    for char in text:
        taken += get_cwidth(char)
        if taken > columns:
            break
        kept.append(char)
    return "".join(kept) + "…"


def wrap(fragments: Sequence[Fragment], columns: int, indent: int) -> list[Fragment]:
    """Insert newlines into the fragments, so that only words longer than a line are broken.

    All lines but the first are indented by ``indent``, so that a message cannot imitate
    another message. A URL that is longer than a line is left to the terminal to break:
    otherwise it could not be copied.
    """
    if columns - indent < indent:
        # The lines are so short that they would consist mostly of the indent.
        indent = 0
    wrapped: list[Fragment] = []
    at = 0
    blanks: list[Fragment] = []
    for word in _words(fragments):
        first = word[0][1]
        if first == "\n":
            wrapped.append(("", "\n" + " " * indent))
            at, blanks = indent, []
            continue
        if first[0].isspace():
            blanks += word
            continue
        gap = sum(width_of(text) for _, text in blanks)
        width = sum(width_of(text) for _, text in word)
        if at + gap + width > columns and indent < at and width <= columns - indent:
            wrapped.append(("", "\n" + " " * indent))
            at = indent
        else:
            wrapped += blanks
            at += gap
        if at + width > columns and not any(_ADDRESS in text for _, text in word):
            wrapped += _broken(word, columns, at, indent)
            at = width_of("".join(text for _, text in wrapped).rpartition("\n")[2])
        else:
            wrapped += word
            at = (at + width) % columns if at + width > columns else at + width
        blanks = []
    return wrapped


def _broken(word: Sequence[Fragment], columns: int, at: int, indent: int) -> list[Fragment]:
    """Break a word that is longer than a line at each line's end. It begins in column ``at``."""
    broken: list[Fragment] = []
    for style, text in word:
        begin = 0
        for end, char in enumerate(text):
            width = width_of(char)
            if at + width > columns and at > indent:
                broken += [(style, text[begin:end]), ("", "\n" + " " * indent)]
                begin, at = end, indent
            at += width
        broken.append((style, text[begin:]))
    return broken


def _words(fragments: Sequence[Fragment]) -> Iterator[list[Fragment]]:
    """Yield the words as lists of fragments. White space and newlines are separate words."""
    word: list[Fragment] = []
    for style, text in fragments:
        for piece in _PIECES.findall(text):
            if piece[0].isspace():
                if word:
                    yield word
                    word = []
                yield [(style, piece.replace("\t", _TAB))]
            else:
                word.append((style, piece))
    if word:
        yield word
