"""Wraps text for a terminal: breaks lines between words, and indents continuation lines."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from prompt_toolkit.utils import get_cwidth

__all__ = ["Fragment", "shorten", "width_of", "wrap"]

#: A style of prompt_toolkit, and a text in that style.
Fragment = tuple[str, str]

#: A newline, other white space, or a part of a word.
_PIECES = re.compile(r"\n|[^\S\n]+|\S+")

#: Marks a URL, which is not broken, so that it can be copied.
_ADDRESS = "://"

#: Replaces a tab, whose width on the terminal is unknown.
_TAB = "    "


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
