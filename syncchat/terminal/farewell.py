"""How a conversation ended, in words and as an exit code."""

from __future__ import annotations

from ..chat.safetext import clean
from ..closecodes import ABNORMAL, GOING_AWAY, NO_CODE, NORMAL, meaning
from ..errors import ConnectionClosed

__all__ = ["CONNECTED", "farewell"]

CONNECTED = "Connected to the chat!"


def farewell(closed: ConnectionClosed) -> tuple[str, int]:
    """A line for the user, and the exit code: 0 only where the server ended it in order.

    The line is safe for a terminal, whatever reason the server gave.
    """
    if closed.code in (NORMAL, NO_CODE):
        return "The server has closed the connection.", 0
    if closed.code == GOING_AWAY:
        return "The server is gone: it has stopped.", 1
    if closed.code == ABNORMAL:
        return "The server is gone: the connection was lost.", 1
    reason = f": {closed.reason}" if closed.reason else ""
    line = f"The server has closed the connection, {meaning(closed.code)}{reason}"
    return clean(line).replace("\n", " "), 1
