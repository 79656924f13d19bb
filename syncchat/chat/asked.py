"""What a client asks for: a nick and a history in its URL, and the message that it posts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Literal
from urllib.parse import parse_qs

import msgspec

from ..engine import Draft, Kind, Position
from ..errors import BadNick
from ..net import Refusal, Request
from .entering import WantedHistory
from .events import MAX_HISTORY, PLACE, Error, Nonce
from .nicks import check_nick
from .sanitize import clean, without_line_end

__all__ = [
    "PLACE_FORM",
    "TOO_MANY_LINES",
    "Query",
    "Said",
    "draft_of",
    "nick_of",
    "nonce_of",
    "position_of",
    "query_of",
    "refused",
    "said_in",
]

#: Lines of a message, at most: plain clients get each line indented, which takes more bytes.
_MOST_LINES = 4096
TOO_MANY_LINES = f"A message must have at most {_MOST_LINES} lines."

#: Digits of a number in the URL, at most, as in PLACE.
_DIGITS = 15
PLACE_FORM = re.compile(PLACE)

#: The media types of a message that is taken as it is. The second is that of ``curl --data``.
_TEXTS = frozenset({"", "application/x-www-form-urlencoded", "text/plain"})
_CHARSETS = frozenset({"", "utf-8", "utf8", "us-ascii"})

#: Characters of an Idempotency-Key, at most, as of a nonce.
_LONGEST_KEY = 64


class Said(msgspec.Struct):
    """A message as JSON."""

    text: str
    nick: str | None = None
    nonce: Nonce | None = None
    kind: Literal["message", "action"] = "message"


_decoder = msgspec.json.Decoder(Said)


@dataclass(frozen=True, slots=True)
class Query:
    """The parsed query of the URL, with an error for each invalid parameter."""

    nick: str | None
    #: Whether the client wants to be refused if it cannot have the nick.
    strict: bool
    history: WantedHistory
    errors: tuple[Error, ...]


def position_of(place: str) -> Position:
    """The position that ``EPOCH:OFFSET`` names."""
    epoch, _, offset = place.partition(":")
    return Position(epoch, int(offset))


def query_of(request: Request) -> Query:
    """What the query asks for. An invalid part is left out, and has an error instead."""
    if not request.query:
        return Query(None, False, WantedHistory(), ())
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
    strict = query.get("strict", ["0"])[-1] == "1"
    return Query(nick, strict, WantedHistory(after, last), tuple(errors))


def draft_of(nick: str, text: str, kind: Kind, nonce: str | None) -> Draft | None:
    """A client's message, sanitized; None: it has too many lines."""
    text = clean(text)
    return None if text.count("\n") >= _MOST_LINES else Draft(nick, text, kind, nonce)


def said_in(content_type: str, body: bytes) -> Said:
    """The message in a body. Raises :class:`Refusal`."""
    kind, _, rest = content_type.lower().partition(";")
    kind = kind.strip()
    charset = rest.partition("charset=")[2].partition(";")[0].strip(' "')
    if (kind not in _TEXTS and kind != "application/json") or charset not in _CHARSETS:
        raise Refusal(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "A message must be text/plain in UTF-8, or application/json.",
        )
    if kind != "application/json":
        try:
            return Said(without_line_end(body.decode()))
        except UnicodeDecodeError as exc:
            raise refused("The message is not UTF-8.") from exc
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, RecursionError) as exc:
        raise refused(f"The body is not a message: {exc}.") from exc


def nick_of(asked: str) -> str:
    """The nick of a sender. Raises :class:`Refusal`."""
    try:
        return check_nick(asked)
    except BadNick as exc:
        raise refused(str(exc)) from exc


def nonce_of(key: str) -> str:
    """The nonce in an Idempotency-Key. Raises :class:`Refusal`."""
    # The draft of the header has quotes around the key; programs often leave them out.
    nonce = key[1:-1] if len(key) > 1 and key[0] == key[-1] == '"' else key
    if not 0 < len(nonce) <= _LONGEST_KEY:
        raise refused(f"An Idempotency-Key must have 1 to {_LONGEST_KEY} characters.")
    return nonce


def refused(text: str) -> Refusal:
    """The refusal of a request that is not valid (400)."""
    return Refusal(HTTPStatus.BAD_REQUEST, text)
