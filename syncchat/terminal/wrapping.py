"""Lines for a terminal of so many columns: broken between words, continuations set in."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from prompt_toolkit.utils import get_cwidth

__all__ = ["Fragment", "shorten", "width_of", "wrap"]

#: A style of prompt_toolkit's, and a text in it.
Fragment = tuple[str, str]

#: A newline, blanks of whatever kind, or a piece of a word.
_PIECES = re.compile(r"\n|[^\S\n]+|\S+")

#: What is left in one piece, so that it can be copied.
_ADDRESS = "://"

#: Columns of a tab, which would move the cursor by nobody knows how many.
_TAB = "    "


def width_of(text: str) -> int:
    """How many columns ``text`` takes."""
    return len(text) if text.isascii() else get_cwidth(text)


def shorten(text: str, columns: int) -> str:
    """``text``, cut off with an ellipsis where it takes more than ``columns``."""
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
    """The fragments with newlines put in, so that no word is broken that fits in a line.

    What follows a newline is set in by ``indent``, so that nothing can pass for a
    line of its own. Only an address that fits in no line is left to the terminal:
    broken by us, it could not be copied.
    """
    if columns - indent < indent:
        # So narrow that it would be mostly indent.
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
    """A word that fits in no line, broken wherever a line ends; the first begins at ``at``."""
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
    """Words, each of one fragment or more; blanks and newlines are words of their own."""
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
