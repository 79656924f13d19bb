"""How a conversation ended, in words and as an exit code."""

from __future__ import annotations

from ..client import ending
from ..closecodes import NO_CODE, NORMAL
from ..errors import ConnectionClosed

__all__ = ["CONNECTED", "farewell"]

CONNECTED = "Connected to the chat!"


def farewell(closed: ConnectionClosed) -> tuple[str, int]:
    """A line for the user, and the exit code: 0 only where the server ended it in order.

    The line is safe for a terminal, whatever reason the server gave.
    """
    return ending(closed.code, closed.reason), 0 if closed.code in (NORMAL, NO_CODE) else 1
