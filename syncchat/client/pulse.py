"""Checks that a silent server, which owes an answer, is still alive."""

from __future__ import annotations

import time
from math import inf

from ..closecodes import ABNORMAL
from ..errors import ConnectionClosed
from ..net import WebSocket

__all__ = ["Pulse"]

#: Seconds of silence before the client pings the server, and then before it gives up.
_SILENCE = 5.0


class Pulse:
    """The check of one connection. Only for the thread that receives from it.

    The heartbeat of the WebSocket waits longer, because it costs some work for every
    idle connection.
    """

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        #: When this object last pinged the server, on the monotonic clock.
        self._pinged_at = -inf

    def check(self, owed_since: float | None, allowance: float) -> float:
        """Ping a silent server. Returns when to check again, on the monotonic clock.

        ``owed_since`` is the time since which the server has owed an answer, None if it
        owes none. ``allowance`` is the number of additional seconds that this answer
        may take. Raises :class:`~syncchat.errors.ConnectionClosed` with code 1006 if
        the server has sent nothing at all after the ping.
        """
        now = time.monotonic()
        if owed_since is None:
            # A message sent in the meantime is not overdue by then.
            return now + _SILENCE
        alive_at = max(owed_since, self._websocket.heard_at)
        if self._pinged_at < alive_at:
            ping_at = alive_at + _SILENCE + allowance
            if now < ping_at:
                return ping_at
            self._websocket.ping()
            self._pinged_at = now
        elif now >= self._pinged_at + _SILENCE:
            raise ConnectionClosed(ABNORMAL, "no sign of life")
        return self._pinged_at + _SILENCE
