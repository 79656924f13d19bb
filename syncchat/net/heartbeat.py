"""The heartbeat: who has been silent is pinged, who stays silent is gone."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from .deadline import Deadline
from .io_thread import IOThread
from .websocket import WebSocket

__all__ = ["start_heartbeat"]

#: Looks at the clock per interval, and the seconds between two of them.
_LOOKS = 8
_SHORTEST = 0.01
_LONGEST = 1.0


def start_heartbeat(
    io_thread: IOThread,
    websockets: Callable[[], Iterable[WebSocket]],
    interval: float | None,
    timeout: float,
) -> None:
    """Look after what ``websockets()`` returns, on the flusher's thread, until it ends.

    After ``interval`` seconds of silence a connection is pinged, after
    ``timeout`` more it is aborted; without an interval nothing is done. One
    sweep over all costs less than a timer for each.
    """
    if not interval:
        return
    pause = min(max(min(interval, timeout) / _LOOKS, _SHORTEST), _LONGEST)

    def beat() -> None:
        # First of all, so that whatever happens the heart goes on.
        io_thread.call_at(Deadline.after(pause), beat)
        for websocket in websockets():
            websocket.beat(interval, timeout)

    io_thread.call_at(Deadline.after(pause), beat)
