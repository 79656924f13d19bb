"""Whether a silent server that owes an answer is still there."""

from __future__ import annotations

import time
from math import inf

from ..closecodes import ABNORMAL
from ..errors import ConnectionClosed
from ..net import WebSocket

__all__ = ["Pulse"]

#: Seconds of silence before the server is pinged, and before it is given up.
_SILENCE = 5.0


class Pulse:
    """The check of one connection. For the thread that receives from it.

    The WebSocket's own heartbeat waits longer, since it costs a little for each
    connection that is merely idle.
    """

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        #: When this last pinged the server, on the monotonic clock.
        self._pinged_at = -inf

    def check(self, owed_since: float | None, allowance: float) -> float:
        """Ping a server that is silent. Returns when to check again, on the monotonic clock.

        ``owed_since`` says since when the server has owed an answer, None: it owes
        none. ``allowance`` are the seconds that this answer may take besides.
        Raises :class:`~syncchat.errors.ConnectionClosed`, with the code 1006, for
        a server that has not answered the ping in any way.
        """
        now = time.monotonic()
        if owed_since is None:
            # What is said in the meantime is not overdue by then.
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
