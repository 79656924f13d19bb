"""What the URL of a client asks for: the room, a nick, and a history."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qs

from ..engine import Position
from ..errors import BadNick
from ..net import Request
from .events import MAX_HISTORY, PLACE, Error
from .members import WantedHistory
from .nicks import check_nick

__all__ = ["Query", "position_of", "query_of"]

#: Digits of a number in the URL, at most, as in PLACE.
_DIGITS = 15
_PLACE = re.compile(PLACE)


@dataclass(frozen=True, slots=True)
class Query:
    """The parsed query of the URL, with an error for each invalid parameter."""

    nick: str | None
    history: WantedHistory
    errors: tuple[Error, ...]


def position_of(place: str) -> Position:
    """The position that ``EPOCH:OFFSET`` names."""
    epoch, _, offset = place.partition(":")
    return Position(epoch, int(offset))


def query_of(request: Request) -> Query:
    """What the query asks for. An invalid part is left out, and has an error instead."""
    if not request.query:
        return Query(None, WantedHistory(), ())
    query = parse_qs(request.query, keep_blank_values=True)
    errors = []
    nick, last, after = None, 0, None
    if "nick" in query:
        try:
            nick = check_nick(query["nick"][-1])
        except BadNick as exc:
            errors.append(Error("nick", str(exc), "nick"))
    if "history" in query:
        asked = query["history"][-1]
        if asked.isascii() and asked.isdigit() and len(asked) <= _DIGITS:
            last = min(int(asked), MAX_HISTORY)
        else:
            errors.append(Error("malformed", "The URL's history= is not a number."))
    if "after" in query:
        asked = query["after"][-1]
        if _PLACE.fullmatch(asked):
            after = position_of(asked)
        else:
            errors.append(Error("malformed", "The URL's after= is not EPOCH:OFFSET."))
    return Query(nick, WantedHistory(after, last), tuple(errors))
