"""The heartbeat: pings silent connections, and aborts those that stay silent."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from .deadline import Deadline
from .io_thread import IOThread
from .websocket import WebSocket

__all__ = ["start_heartbeat"]

#: How many sweeps there are per interval, and the bounds of the seconds between two.
_LOOKS = 8
_SHORTEST = 0.01
_LONGEST = 1.0


def start_heartbeat(
    io_thread: IOThread,
    websockets: Callable[[], Iterable[WebSocket]],
    interval: float | None,
    timeout: float,
) -> None:
    """Watch the connections that ``websockets()`` returns, until the I/O thread ends.

    After ``interval`` seconds of silence a connection is pinged, after ``timeout``
    more seconds it is aborted. Without an interval, do nothing. The I/O thread
    calls ``websockets``. One sweep over all connections costs less than a timer
    for each of them.
    """
    if not interval:
        return
    pause = min(max(min(interval, timeout) / _LOOKS, _SHORTEST), _LONGEST)

    def beat() -> None:
        # Set the next timer first, so that an exception does not end the heartbeat.
        io_thread.call_at(Deadline.after(pause), beat)
        for websocket in websockets():
            websocket.beat(interval, timeout)

    io_thread.call_at(Deadline.after(pause), beat)
