"""The limits of connections and servers, and what a server counts.

:class:`ClientCounts` refuses a client over a limit of connections, and
:class:`TokenBucket` is the rate limit.
"""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypedDict

from .http import Refusal

__all__ = [
    "ClientCounts",
    "ConnectionSettings",
    "Counters",
    "HostBuckets",
    "Limits",
    "ServerSettings",
    "Stats",
    "TokenBucket",
    "Traffic",
]


#: Hosts whose rates are limited, at most.
_MOST_BUCKETS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits by name, with their defaults; sizes in bytes, times in seconds."""

    #: Size of a message from the peer, all fragments together. Beyond: close code 1009.
    max_message: int = 64 * 1024
    #: Number of fragments of a message. Beyond: close code 1009.
    max_fragments: int = 1024
    #: Size of the backlog of one peer. Beyond: close code 1013.
    max_backlog: int = 1024 * 1024
    #: How long the backlog may make no progress before the connection is aborted;
    #: None: no limit.
    stall_timeout: float | None = 10.0
    #: Time for TLS and the opening handshake together.
    open_timeout: float = 10.0
    #: Time for the closing handshake.
    close_timeout: float = 10.0
    #: Silence after which the peer is pinged; None or 0: never.
    ping_interval: float | None = 20.0
    #: Further silence after which the connection is aborted (close code 1006).
    ping_timeout: float = 20.0
    #: Frames per second that are read from one peer; further frames wait. 0: no limit.
    rate: float = 0.0
    #: Frames that a peer may send at once before ``rate`` applies.
    burst: int = 20
    #: Number of clients; further clients get status 503. None: no limit.
    max_connections: int | None = None
    #: Number of clients from one address; further clients get status 503. None: no limit.
    max_connections_per_address: int | None = None
    #: New connections per second from one address, an IPv6 network of 64 bits counting as one;
    #: further clients get status 429. 0: no limit.
    connect_rate: float = 0.0
    #: New connections from one address at once before ``connect_rate`` applies.
    connect_burst: int = 100
    #: Size of the backlogs of all clients together. Beyond, those with the largest backlogs are
    #: closed (1013). None: no limit.
    max_memory: int | None = None


class ConnectionSettings(TypedDict, total=False):
    """Keyword arguments of :func:`syncchat.net.connect`: see :class:`Limits`."""

    max_message: int
    max_fragments: int
    max_backlog: int
    stall_timeout: float | None
    open_timeout: float
    close_timeout: float
    ping_interval: float | None
    ping_timeout: float
    rate: float
    burst: int


class ServerSettings(ConnectionSettings, total=False):
    """Keyword arguments of :func:`syncchat.net.serve`: see :class:`Limits`."""

    max_connections: int | None
    max_connections_per_address: int | None
    connect_rate: float
    connect_burst: int
    max_memory: int | None


class TokenBucket:
    """The rate limit: allows ``burst`` tokens at once, then ``rate`` tokens per second.

    A peer that sends too fast is read more slowly: the reading thread waits, and TCP
    backpressure slows the peer down. Nothing is lost, and the connection stays open. (The
    Ergo IRC server does the same.) Only one thread at a time may use it.
    """

    __slots__ = ("_burst", "_filled_at", "_rate", "_tokens")

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = float(max(burst, 1))
        self._tokens = self._burst
        self._filled_at = time.monotonic()

    def charge(self) -> float:
        """Take a token. Returns when the next token is available, on the monotonic clock.

        Returns the present moment if a token is available now.
        """
        now = time.monotonic()
        grown = (now - self._filled_at) * self._rate
        self._tokens = min(self._burst, self._tokens + grown) - 1.0
        self._filled_at = now
        return now + (1.0 - self._tokens) / self._rate if self._tokens < 1.0 else now

    def take(self) -> float:
        """Take a token if there is one. Returns 0.0, or the seconds until there is one."""
        wait = self.wait()
        if not wait:
            self._tokens -= 1.0
        return wait

    def wait(self) -> float:
        """The seconds until there is a token; 0.0 if there is one."""
        self._fill()
        return (1.0 - self._tokens) / self._rate if self._tokens < 1.0 else 0.0

    @property
    def is_full(self) -> bool:
        """Whether no token is missing."""
        self._fill()
        return self._tokens >= self._burst

    def _fill(self) -> None:
        now = time.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now


class HostBuckets:
    """A rate limit for each host. Usable from any thread. A ``rate`` of 0: no limit.

    The addresses of an IPv6 network of 64 bits count as one: a site can use all of them.
    """

    def __init__(self, rate: float, burst: int) -> None:
        self._rate, self._burst = rate, burst
        #: Guards the field below. No other lock is taken under it.
        self._lock = threading.Lock()
        self._buckets: dict[str, TokenBucket] = {}

    def take(self, host: str) -> float:
        """Take a token of ``host``. Returns 0.0, or the seconds until it has another one."""
        if not self._rate:
            return 0.0
        host = _site(host)
        with self._lock:
            if len(self._buckets) >= _MOST_BUCKETS and host not in self._buckets:
                self._forget_locked()
            return self._buckets.setdefault(host, TokenBucket(self._rate, self._burst)).take()

    def wait(self, host: str) -> float:
        """The seconds until ``host`` has a token; 0.0 if it has one."""
        if not self._buckets:
            return 0.0
        with self._lock:
            bucket = self._buckets.get(_site(host))
            return 0.0 if bucket is None else bucket.wait()

    def _forget_locked(self) -> None:
        """Forget hosts that have been quiet for so long that nothing is limited."""
        assert self._lock.locked()
        self._buckets = {host: each for host, each in self._buckets.items() if not each.is_full}
        if len(self._buckets) >= _MOST_BUCKETS:
            # All hosts are active. Forget them, so that the memory stays bounded.
            self._buckets.clear()


def _site(host: str) -> str:
    """``host``, or of an IPv6 address its network of 64 bits. Another text stays as it is."""
    try:
        address = ipaddress.IPv6Address(host)
    except ValueError:
        return host
    return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))


class ClientCounts:
    """Counts a server's clients, in total and per host, and refuses those over the limits.

    A host is an IP address as text, or None for a client that a trusted proxy has not
    named yet. Only one thread at a time may use the object.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        #: The number of clients.
        self.total = 0
        self._per_host: Counter[str] = Counter()

    def refusal(self, host: str | None) -> Refusal | None:
        """The refusal of a further client from ``host``; None if there is room for it."""
        most = self._limits.max_connections
        if most is not None and self.total >= most:
            text = "Too many clients: the operator can raise --max-connections."
            return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, text)
        return None if host is None else self.refusal_of_host(host)

    def refusal_of_host(self, host: str) -> Refusal | None:
        """The refusal of a client that is counted in total, and turns out to be from ``host``."""
        most = self._limits.max_connections_per_address
        if most is not None and self._per_host[host] >= most:
            text = (
                "Too many clients from your address:"
                " the operator can raise --max-connections-per-address."
            )
            return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, text)
        return None

    def enter(self, host: str | None) -> None:
        """Count a client."""
        self.total += 1
        if host is not None:
            self.count_host(host)

    def count_host(self, host: str) -> None:
        """Count a client for ``host`` that is counted in total."""
        self._per_host[host] += 1

    def leave(self, host: str | None) -> None:
        """Count a client no more; ``host`` is the one that it was counted for."""
        self.total -= 1
        if host is not None:
            self.leave_host(host)

    def leave_host(self, host: str) -> None:
        """Count a client no more for ``host``, but still in total."""
        self._per_host[host] -= 1
        if not self._per_host[host]:
            del self._per_host[host]


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
    #: Complete messages from clients, the bodies of requests included, and messages accepted for
    #: sending to clients.
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

    def _add_locked(self, total: Counter[str], traffic: Traffic) -> None:
        assert self._lock.locked()
        for name in Traffic.__slots__:
            total[name] += getattr(traffic, name)
