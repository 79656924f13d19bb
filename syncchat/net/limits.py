"""The limits of a connection and of a server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

__all__ = ["ConnectionSettings", "Limits", "ServerSettings"]


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
