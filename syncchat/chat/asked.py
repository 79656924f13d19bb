"""What the URL of a client asks for: a nick and a history; and the message that it sends."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qs

from ..engine import Draft, Kind, Position
from ..errors import BadNick
from ..net import Request
from .entering import WantedHistory
from .events import MAX_HISTORY, PLACE, Error
from .nicks import check_nick
from .sanitize import clean

__all__ = ["PLACE_FORM", "TOO_MANY_LINES", "Query", "draft_of", "position_of", "query_of"]

#: Lines of a message, at most: plain clients get each line indented, which takes more bytes.
_MOST_LINES = 4096
TOO_MANY_LINES = f"A message must have at most {_MOST_LINES} lines."

#: Digits of a number in the URL, at most, as in PLACE.
_DIGITS = 15
PLACE_FORM = re.compile(PLACE)


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
        if PLACE_FORM.fullmatch(asked):
            after = position_of(asked)
        else:
            errors.append(Error("malformed", "The URL's after= is not EPOCH:OFFSET."))
    return Query(nick, WantedHistory(after, last), tuple(errors))


def draft_of(nick: str, text: str, kind: Kind, nonce: str | None) -> Draft | None:
    """A client's message, sanitized; None: it has too many lines."""
    text = clean(text)
    return None if text.count("\n") >= _MOST_LINES else Draft(nick, text, kind, nonce)
