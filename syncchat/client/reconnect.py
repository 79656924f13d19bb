"""Decides whether, when and where the client reconnects after a break."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from math import inf, nan
from urllib.parse import (
    parse_qs,
    parse_qsl,
    quote,
    unquote,
    unquote_plus,
    urlencode,
    urlsplit,
    urlunsplit,
)

from ..chat.events import MAX_HISTORY
from ..chat.room_names import check_room
from ..closecodes import ABNORMAL, NO_CODE, NORMAL, POLICY_VIOLATION, TOO_BIG
from ..errors import BadRoom, ConnectionClosed, HandshakeRefused
from ..net import Address, Deadline, route_to

__all__ = [
    "SILENCE",
    "Liveness",
    "Naps",
    "Pause",
    "asks_for_history",
    "delays",
    "history_of",
    "is_final",
    "url_for",
    "without_token",
]

#: The shortest delay before an attempt, and the longest, in seconds.
_FIRST, _LONGEST = 0.5, 20.0

#: A token that a header can carry.
_HEADER_TOKEN = re.compile(r"[\x21-\x7e]+")

#: Between two checks of the network during a delay: a share of it, and the fewest seconds.
_SHARE, _LOOK = 0.1, 0.5

#: Seconds of silence before the client pings a server that owes an answer, and then
#: before it gives the connection up: 10 in all, with some for a busy machine. The heartbeat
#: of the WebSocket waits longer, because it costs some work for every idle connection.
SILENCE, _ANSWER = 5.0, 4.0

#: Codes after which reconnecting is useless: the conversation is over, or the client
#: would make the same mistake again.
_FINAL_CODES = frozenset({NORMAL, 1002, 1003, NO_CODE, 1007, POLICY_VIOLATION, TOO_BIG, 1010})

#: Refusals that may be temporary. Any other 4xx status would come again.
_PASSING = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})


def is_final(exc: Exception) -> bool:
    """Whether the client must not reconnect after this end of a connection, or of an attempt."""
    if isinstance(exc, ConnectionClosed):
        # In the codes for applications (3000 and up), the upper half of each thousand
        # is final, as in Centrifugo.
        return exc.code in _FINAL_CODES or (exc.code >= 3000 and exc.code % 1000 >= 500)
    if isinstance(exc, HandshakeRefused):
        return exc.status < HTTPStatus.INTERNAL_SERVER_ERROR and exc.status not in _PASSING
    return False


def delays(random: Callable[[], float]) -> Iterator[float]:
    """Yield the seconds before each attempt: random, and longer from attempt to attempt.

    ``random`` returns numbers from 0 to 1. The randomness spreads the clients of a
    restarted server over time, from the first attempt on ("Exponential Backoff And
    Jitter", AWS, 2015).
    """
    longest = 2 * _FIRST
    while True:
        yield _FIRST + random() * (longest - _FIRST)
        longest = min(_LONGEST, 2 * longest)


class Naps:
    """Notices that the machine slept, or that the process was stopped."""

    def __init__(self) -> None:
        #: How far the time of day is ahead of the clock, which may stand still in a sleep.
        self._ahead = nan

    def noticed(self, now: float, due_at: float) -> bool:
        """Whether there was a sleep since the last call. ``due_at`` is when this one was due."""
        before, self._ahead = self._ahead, time.time() - now
        return now > due_at + SILENCE or abs(self._ahead - before) > SILENCE


class Liveness:
    """Finds out whether a connection is dead: whether a server that owes an answer is silent."""

    def __init__(self) -> None:
        #: When the server was last pinged, and when a sleep was last noticed.
        self._pinged_at = self._woke_at = -inf

    def woke(self, now: float) -> None:
        """Ask the server for an answer at once, after a sleep."""
        self._woke_at = now

    def check(
        self, now: float, heard_at: float, owed_since: float | None, allowance: float
    ) -> tuple[float, bool]:
        """Return when to check again at the latest, and whether to ping the server now.

        The server last sent anything at ``heard_at``, and has owed an answer since
        ``owed_since`` (None: it owes none), which may take ``allowance`` seconds more.
        Raises :class:`~syncchat.errors.ConnectionClosed` with code 1006 if the server
        has sent nothing at all after the last ping.
        """
        woke = self._woke_at >= heard_at
        if owed_since is None and not woke:
            return now + SILENCE, False
        alive_at = heard_at if owed_since is None else max(owed_since, heard_at)
        if woke and self._pinged_at < self._woke_at:
            ping_at = now
        elif self._pinged_at < alive_at:
            ping_at = alive_at + SILENCE + allowance
        elif now >= self._pinged_at + _ANSWER:
            raise ConnectionClosed(ABNORMAL, "no response")
        else:
            return self._pinged_at + _ANSWER, False
        if now < ping_at:
            return ping_at, False
        self._pinged_at = now
        return now + _ANSWER, True


class Pause:
    """The delay before an attempt. ``stop`` is set before :meth:`cut_short` to close the client.

    :meth:`wait` is for the reader thread; any thread may call :meth:`cut_short`.
    """

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._cut_short = threading.Event()

    def cut_short(self) -> None:
        """End the current delay, or the next one if there is none."""
        self._cut_short.set()

    def wait(self, server: Address | None, delay: float) -> bool:
        """Wait ``delay``, or less if the network returns. Returns False if the client is closed."""
        deadline = Deadline.after(delay)
        before = None if server is None else route_to(server)
        look = max(_LOOK, delay * _SHARE)
        while not deadline.expired and not self._stop.is_set():
            if self._cut_short.wait(min(look, deadline.remaining() or 0.0)):
                break
            now = None if server is None else route_to(server)
            if now is not None and now != before:
                break
            before = now
        self._cut_short.clear()
        return not self._stop.is_set()


def asks_for_history(url: str, history: int) -> bool:
    """Whether the request for ``url`` makes the server send history."""
    return history_of(url, history) > 0 or "after" in parse_qs(urlsplit(url).query)


def history_of(url: str, history: int) -> int:
    """Return how many of the last messages ``history``, or else ``url``, asks for."""
    last = parse_qs(urlsplit(url).query).get("history", ["0"])[-1]
    in_url = int(last[:9]) if last.isascii() and last.isdecimal() else 0
    return min(history or in_url, MAX_HISTORY)


def url_for(
    url: str,
    *,
    rooms: tuple[str, str] | None,
    nick: str | None,
    after: str | None,
    history: int,
) -> str:
    """Return ``url`` with the query and the path for a connection.

    ``rooms`` are the URL's room and the room to enter; None: the URL's room.
    """
    parts = urlsplit(url)
    asked = {"nick": nick, "after": after, "history": str(history) if history else None}
    left_out = {name for name, value in asked.items() if value is not None}
    if after is not None:
        # Both say where to begin; the position is more exact.
        asked["history"] = None
        left_out.add("history")
    query = [
        (name, value)
        for name, value in parse_qsl(parts.query, keep_blank_values=True)
        if name not in left_out
    ]
    query += [(name, value) for name, value in asked.items() if value is not None]
    path = parts.path if rooms is None else _path(parts.path, *rooms)
    return urlunsplit((parts.scheme, parts.netloc, path, urlencode(query), ""))


def _path(path: str, first: str, room: str) -> str:
    """Return the path of ``room``, given that of ``first``. Keeps a prefix for a proxy."""
    if room == first:
        return path
    prefix = unquote(path).strip("/")
    before, _, last = prefix.rpartition("/")
    if last == first or _named_by(last) == first:
        prefix = before
    return "/".join(["", *([quote(prefix)] if prefix else []), quote(room, safe="")])


def _named_by(text: str) -> str | None:
    """Return the room that ``text`` names, in whatever spelling; None if it is no room name."""
    try:
        return check_room(text)
    except BadRoom:
        return None


def without_token(url: str) -> tuple[str, str | None]:
    """The URL without its ``token=``, and that token, if there is one that a header can carry."""
    place, _, query = url.partition("?")
    parts = query.split("&")
    tokens = [part for part in parts if part.startswith("token=")]
    token = unquote_plus(tokens[-1].partition("=")[2]) if tokens else ""
    if not _HEADER_TOKEN.fullmatch(token):
        return url, None
    rest = "&".join(part for part in parts if part not in tokens)
    return f"{place}?{rest}" if rest else place, token
