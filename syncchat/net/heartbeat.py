"""Pings that wait for a pong; sweeps over all connections; the heartbeat, which finds dead ones."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import partial
from typing import Protocol, TypeVar

from .io_thread import Deadline, IOThread

__all__ = ["PendingPings", "start_heartbeat", "start_sweep"]

Connection = TypeVar("Connection")

#: How many sweeps there are per interval, and the bounds of the seconds between two.
_LOOKS = 8
_SHORTEST = 0.01
_LONGEST = 1.0


class PendingPings:
    """The pings of one connection that wait for their pongs. Usable from any thread."""

    __slots__ = ("_lock", "_pings")

    def __init__(self) -> None:
        #: Guards the field below. No other lock is taken under it.
        self._lock = threading.Lock()
        #: By payload, in the order of sending, with the time of sending.
        self._pings: dict[bytes, tuple[Future[float], float]] = {}

    def add(self, payload: bytes) -> tuple[bytes, Future[float]]:
        """Add a ping. Returns its payload, which is a new one if it is not unique, and its future.

        The result of the future is the round-trip time in seconds.
        """
        pong: Future[float] = Future()
        with self._lock:
            while not payload or payload in self._pings:
                payload = os.urandom(4)
            self._pings[payload] = (pong, time.monotonic())
        return payload, pong

    def answer(self, payload: bytes) -> None:
        """Handle a pong. Runs the callbacks of the pings that it answers."""
        now = time.monotonic()
        answered: list[tuple[Future[float], float]] = []
        with self._lock:
            if payload in self._pings:
                # RFC 6455, section 5.5.3: the pong may be for the latest ping only.
                for sent in list(self._pings):
                    answered.append(self._pings.pop(sent))
                    if sent == payload:
                        break
        for pong, sent_at in answered:
            if pong.set_running_or_notify_cancel():
                pong.set_result(now - sent_at)

    def fail(self, error: Exception) -> None:
        """No further pong will arrive. Runs the callbacks of all pings."""
        with self._lock:
            pings = list(self._pings.values())
            self._pings.clear()
        for pong, _ in pings:
            if pong.set_running_or_notify_cancel():
                pong.set_exception(error)


class Beating(Protocol):
    """What the heartbeat needs of a connection: a WebSocket."""

    @property
    def heard_at(self) -> float:
        """When the last bytes were read, on the monotonic clock."""

    @property
    def resumed_at(self) -> float:
        """When the last pause of the rate limit ended, on the monotonic clock."""

    #: When send_ping() was called last.
    pinged_at: float

    def has_input(self) -> bool:
        """Whether bytes have arrived that are not read yet."""

    def send_ping(self) -> None:
        """Ping the peer without waiting for the pong."""

    def abort(self, reason: str) -> None:
        """End the connection."""


def start_sweep(
    io_thread: IOThread,
    connections: Callable[[], Iterable[Connection]],
    look: Callable[[Connection], None],
    shortest: float,
) -> None:
    """Call ``look`` with each connection from time to time, until the I/O thread ends.

    ``shortest`` is the shortest limit, in seconds, that ``look`` checks. The I/O thread
    calls both functions. One sweep over all connections costs less than a timer for
    each of them.
    """
    pause = min(max(shortest / _LOOKS, _SHORTEST), _LONGEST)

    def sweep() -> None:
        # Set the next timer first, so that an exception does not end the sweeps.
        io_thread.call_at(Deadline.after(pause), sweep)
        for connection in connections():
            look(connection)

    io_thread.call_at(Deadline.after(pause), sweep)


def start_heartbeat(
    io_thread: IOThread,
    connections: Callable[[], Iterable[Beating]],
    interval: float | None,
    timeout: float,
) -> None:
    """Watch the connections that ``connections()`` returns, until the I/O thread ends.

    After ``interval`` seconds of silence a connection is pinged, after ``timeout``
    more seconds it is aborted. Without an interval, do nothing. The I/O thread
    calls ``connections``.
    """
    if interval:
        heart = partial(_beat, interval=interval, timeout=timeout)
        start_sweep(io_thread, connections, heart, min(interval, timeout))


def _beat(connection: Beating, interval: float, timeout: float) -> None:
    """Ping a silent peer, and abort the connection of one that stays silent."""
    now = time.monotonic()
    if now - connection.heard_at < interval:
        return
    # After a pause of the rate limit, frames are parsed that arrived before it.
    # So the end of the pause counts as a sign of life.
    alive_at = max(connection.heard_at, connection.resumed_at)
    overdue = now - alive_at >= interval + timeout and connection.pinged_at > alive_at
    # Unread input is a sign of life, too: the peer sends, but no thread receives.
    if overdue and not connection.has_input():
        connection.abort("no response")
    elif now - connection.pinged_at >= interval:
        # Repeat the ping in each interval: if the rate limit slows reading down,
        # this end answers the peer's pings late, and only its own pings show the
        # peer that it is alive.
        connection.send_ping()
