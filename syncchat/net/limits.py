"""What a connection and a server are held to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

__all__ = ["ConnectionSettings", "Limits", "ServerSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits by name, with their defaults; sizes in bytes, times in seconds."""

    #: A message from the peer, its fragments together (close code 1009 above).
    max_message: int = 64 * 1024
    #: Fragments of one message (1009 above).
    max_fragments: int = 1024
    #: What may wait for one peer that reads too slowly (1013 above).
    max_backlog: int = 1024 * 1024
    #: How long that may wait without a move, then the peer is cut off; None: for ever.
    stall_timeout: float | None = 10.0
    #: For TLS and the opening handshake together.
    open_timeout: float = 10.0
    #: For the closing handshake.
    close_timeout: float = 10.0
    #: Silence after which the peer is pinged; None or 0: never.
    ping_interval: float | None = 20.0
    #: Further silence after which it is taken for gone (close code 1006).
    ping_timeout: float = 20.0
    #: Frames a second that are read from one peer, which waits above; 0: any number.
    rate: float = 0.0
    #: Frames that it may send at once before ``rate`` holds.
    burst: int = 20
    #: Clients at a time; those above are answered 503. None: any number.
    max_connections: int | None = None
    #: Clients at a time from one address, as above.
    max_connections_per_address: int | None = None


class ConnectionSettings(TypedDict, total=False):
    """The keywords of :func:`syncchat.net.connect`: see :class:`Limits`."""

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
    """The keywords of :func:`syncchat.net.serve`: see :class:`Limits`."""

    max_connections: int | None
    max_connections_per_address: int | None
