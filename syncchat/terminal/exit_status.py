"""The texts and exit codes for the start, a break and the end of a connection."""

from __future__ import annotations

from ..client import ending
from ..closecodes import NO_CODE, NORMAL
from ..errors import ConnectionClosed
from .sanitize import text_for_screen

__all__ = ["AGAIN", "COMING_BACK", "CONNECTED", "exit_status"]

CONNECTED = "Connected to the chat!"
AGAIN = "Connected to the chat again!"
COMING_BACK = "-> Trying to come back."


def exit_status(closed: ConnectionClosed) -> tuple[str, int]:
    """Return a line for the user, and the exit code: 0 only if the server closed in order.

    The line is safe for a terminal, whatever reason the server gave.
    """
    line = text_for_screen(ending(closed.code, closed.reason))
    return line, 0 if closed.code in (NORMAL, NO_CODE) else 1
