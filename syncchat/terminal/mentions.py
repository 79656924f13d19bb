"""Words in a text that are to stand out: one's own name, and what was searched for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

__all__ = ["mark", "mentions"]


def mentions(text: str, nick: str) -> bool:
    """Whether ``nick`` stands in ``text`` as a whole word, in any case of letters."""
    folded = nick.casefold()
    # Before the expression: most texts do not.
    return (
        bool(folded)
        and folded in text.casefold()
        and _whole(folded).search(text.casefold()) is not None
    )


def mark(text: str, nick: str, words: Iterable[str] = ()) -> Iterator[tuple[str, str]]:
    """``text`` in fragments: ``class:mention`` is the nick, ``class:match`` begins as a word."""
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
    # Folding may make a text longer: which character each came from.
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
