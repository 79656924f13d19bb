"""What a server has done so far, in numbers."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Counters", "Stats", "Traffic"]


@dataclass(frozen=True, slots=True)
class Traffic:
    """What went over one connection."""

    messages_in: int = 0
    messages_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


@dataclass(frozen=True, slots=True)
class Stats:
    """A server's numbers at one moment, since its start."""

    #: Clients that are connected now, those in the opening handshake included.
    connections: int
    #: Clients whose opening handshake was done, in all.
    connections_total: int
    #: Whole messages from clients, and messages handed to the network for them.
    messages_in: int
    messages_out: int
    #: Bytes over the wire, handshakes and TLS included.
    bytes_in: int
    bytes_out: int
    #: Bytes that wait for clients to take them.
    backlog: int
    #: Clients closed because they were too slow.
    slow_consumers: int
    #: Clients that got no WebSocket, by the reason: an HTTP status, ``"TLS"``,
    #: or ``"gone"`` for those that left before they had asked.
    refused: dict[str, int]


class Counters:
    """Adds up what is over. From any thread."""

    def __init__(self) -> None:
        #: Guards the fields below. No other lock is taken under it.
        self._lock = threading.Lock()
        self._opened = 0
        self._slow = 0
        self._refused: Counter[str] = Counter()
        self._traffic: Counter[str] = Counter()

    def note_opened(self) -> None:
        """A client's handshake is done."""
        with self._lock:
            self._opened += 1

    def note_slow(self) -> None:
        """A client is closed because it is too slow."""
        with self._lock:
            self._slow += 1

    def note_refused(self, reason: str) -> None:
        """A client got no WebSocket."""
        with self._lock:
            self._refused[reason] += 1

    def note_ended(self, traffic: Traffic) -> None:
        """A connection is over, and this went over it."""
        with self._lock:
            self._add_locked(self._traffic, traffic)

    def stats(self, live: Iterable[tuple[Traffic, int]]) -> Stats:
        """The sum, with the traffic and the backlog of the connections that there are."""
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
