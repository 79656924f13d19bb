"""Finds the parts of a text to highlight: the user's nick, and the words of a search."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

__all__ = ["mark", "mentions"]


def mentions(text: str, nick: str) -> bool:
    """Whether ``nick`` occurs in ``text`` as a whole word. Ignores case."""
    folded = nick.casefold()
    # The substring test is cheap, and most texts fail it.
    return (
        bool(folded)
        and folded in text.casefold()
        and _whole(folded).search(text.casefold()) is not None
    )


def mark(text: str, nick: str, words: Iterable[str] = ()) -> Iterator[tuple[str, str]]:
    """Yield ``text`` in fragments of (style, text). Ignores case.

    ``class:mention`` is the nick as a whole word. ``class:match`` is a word that begins
    with one of ``words``.
    """
    found = [("class:mention", _whole(nick.casefold()))] if nick else []
    found += [("class:match", _beginning(word.casefold())) for word in words if word]
    folded = text.casefold()
    spans = sorted(
        (match.start(), match.end(), style)
        for style, pattern in found
        for match in pattern.finditer(folded)
    )
    if not spans:
        yield "", text
        return
    # Casefolding may lengthen a text: map each folded character to its origin.
    if len(folded) == len(text):
        place = list(range(len(text) + 1))
    else:
        place = [at for at, char in enumerate(text) for _ in char.casefold()] + [len(text)]
    done = 0
    for start, end, style in spans:
        begin, stop = place[start], place[end - 1] + 1
        if begin < done:
            continue
        if begin > done:
            yield "", text[done:begin]
        yield style, text[begin:stop]
        done = stop
    if done < len(text):
        yield "", text[done:]


def _whole(folded: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(folded)}(?!\w)")


def _beginning(folded: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(folded)}\w*")
