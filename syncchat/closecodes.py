"""The close codes of RFC 6455, section 7.4, and of its registry at IANA."""

from __future__ import annotations

import re
from random import random, shuffle

__all__ = [
    "ABNORMAL",
    "GOING_AWAY",
    "INTERNAL_ERROR",
    "INVALID_DATA",
    "MAX_REASON",
    "NORMAL",
    "NO_CODE",
    "ORDERLY",
    "POLICY_VIOLATION",
    "SERVICE_RESTART",
    "TOO_BIG",
    "TRY_AGAIN_LATER",
    "check_close",
    "meaning",
    "retry_after",
    "returns",
    "with_retry",
]

NORMAL = 1000
GOING_AWAY = 1001
#: The peer's Close carried no code. Never on the wire.
NO_CODE = 1005
#: The connection ended without a Close. Never on the wire.
ABNORMAL = 1006
INVALID_DATA = 1007
POLICY_VIOLATION = 1008
TOO_BIG = 1009
INTERNAL_ERROR = 1011
SERVICE_RESTART = 1012
TRY_AGAIN_LATER = 1013

#: The codes of a normal end of a connection.
ORDERLY = frozenset({NORMAL, GOING_AWAY, NO_CODE})

_MEANINGS = {
    NORMAL: "normal closure",
    GOING_AWAY: "going away",
    1002: "protocol error",
    1003: "unsupported data",
    NO_CODE: "no close code",
    ABNORMAL: "connection lost",
    INVALID_DATA: "invalid data",
    POLICY_VIOLATION: "policy violation",
    TOO_BIG: "message too big",
    1010: "extension missing",
    INTERNAL_ERROR: "internal error",
    SERVICE_RESTART: "service restart",
    TRY_AGAIN_LATER: "try again later",
    1014: "bad gateway",
}

#: The codes that a Close frame may carry: the codes above except the two that exist
#: only in APIs, and the ranges for libraries (3000) and applications (4000).
_ON_THE_WIRE = (_MEANINGS.keys() - {NO_CODE, ABNORMAL}) | set(range(3000, 5000))

_RETRY = re.compile(r"retry after ([0-9]{1,4}(?:\.[0-9]{1,3})?)\Z")
_LONGEST_RETRY = 60.0

#: Clients per second that are asked to come back after a stop, and seconds until the first of them.
#: Fewer clients than those of a second are not asked: they come back when they like. The last ones
#: are asked to come back after _LAST_RETURN, however many there are.
_RETURNS, _FIRST_RETURN, _LAST_RETURN = 370, 1.0, 60.0

#: Maximum bytes of a reason: a control frame takes 125, and the code needs 2 of them.
MAX_REASON = 123


def meaning(code: int) -> str:
    """``1009 (message too big)``; only the number if it has no registered meaning."""
    return f"{code} ({_MEANINGS[code]})" if code in _MEANINGS else str(code)


def with_retry(reason: str, seconds: float) -> str:
    """``reason``, with the request to come back after ``seconds``."""
    return f"{reason}; retry after {seconds:.1f}"


def retry_after(reason: str) -> float | None:
    """The seconds after which ``reason`` asks a client to come back, at most 60; None: it does not.

    A server that stops asks so, for its clients to come back one after the other.
    """
    found = _RETRY.search(reason)
    return None if found is None else min(float(found[1]), _LONGEST_RETRY)


def returns(count: int) -> list[float | None]:
    """The seconds after which each of ``count`` clients is to come back, in random order.

    Without an appointment, those of a server that is restarted would all come within a second.
    """
    if count <= _RETURNS:
        return [None] * count
    span = min(count / _RETURNS, _LAST_RETURN - _FIRST_RETURN)
    step = span / count
    turns = [_FIRST_RETURN + (turn + random()) * step for turn in range(count)]  # noqa: S311
    shuffle(turns)
    return [*turns]


def check_close(code: int, reason: str) -> None:
    """Raise :class:`ValueError` for a code or reason that a Close frame must not carry.

    wsproto does not check them.
    """
    if code not in _ON_THE_WIRE:
        raise ValueError(f"close code {code} must not be sent")
    if len(reason.encode()) > MAX_REASON:
        raise ValueError(f"a close reason can have at most {MAX_REASON} bytes")
