"""Counters of a server's clients, messages and bytes."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Counters", "Stats", "Traffic"]


@dataclass(frozen=True, slots=True)
class Traffic:
    """The messages and bytes that went over one connection."""

    messages_in: int = 0
    messages_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


@dataclass(frozen=True, slots=True)
class Stats:
    """A snapshot of a server's counters since its start."""

    #: Clients that are connected now, including those in the opening handshake.
    connections: int
    #: Clients that have completed the opening handshake since the start.
    connections_total: int
    #: Complete messages from clients, and messages accepted for sending to clients.
    messages_in: int
    messages_out: int
    #: Bytes on the network, including handshakes and TLS.
    bytes_in: int
    bytes_out: int
    #: Bytes that wait until clients take them.
    backlog: int
    #: Clients closed because they were too slow.
    slow_consumers: int
    #: Clients that got no WebSocket, by reason: an HTTP status, ``"TLS"``, or
    #: ``"gone"`` for clients that left before they sent a request.
    refused: dict[str, int]


class Counters:
    """Counts events, and sums the traffic of ended connections. Usable from any thread."""

    def __init__(self) -> None:
        #: Guards the fields below. No other lock is taken under it.
        self._lock = threading.Lock()
        self._opened = 0
        self._slow = 0
        self._refused: Counter[str] = Counter()
        self._traffic: Counter[str] = Counter()

    def note_opened(self) -> None:
        """Count a client that has completed the opening handshake."""
        with self._lock:
            self._opened += 1

    def note_slow(self) -> None:
        """Count a client that is closed because it is too slow."""
        with self._lock:
            self._slow += 1

    def note_refused(self, reason: str) -> None:
        """Count a client that got no WebSocket, under ``reason``."""
        with self._lock:
            self._refused[reason] += 1

    def note_ended(self, traffic: Traffic) -> None:
        """Add the traffic of a connection that has ended."""
        with self._lock:
            self._add_locked(self._traffic, traffic)

    def stats(self, live: Iterable[tuple[Traffic, int]]) -> Stats:
        """The totals. ``live`` has the traffic and the backlog of each open connection."""
        with self._lock:
            total = Counter(self._traffic)
            count = backlog = 0
            for traffic, queued in live:
                self._add_locked(total, traffic)
                count += 1
                backlog += queued
            return Stats(
                connections=count,
                connections_total=self._opened,
                messages_in=total["messages_in"],
                messages_out=total["messages_out"],
                bytes_in=total["bytes_in"],
                bytes_out=total["bytes_out"],
                backlog=backlog,
                slow_consumers=self._slow,
                refused=dict(self._refused),
            )

    @staticmethod
    def _add_locked(total: Counter[str], traffic: Traffic) -> None:
        for name in Traffic.__slots__:
            total[name] += getattr(traffic, name)
