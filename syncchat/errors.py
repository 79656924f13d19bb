"""Every exception that a caller can meet.

All of them derive from :class:`SyncchatError`, and from the built-in class
that a caller who has never heard of syncchat would catch (``ConnectionError``,
``ValueError``). Time limits raise the built-in :class:`TimeoutError`.
"""

from __future__ import annotations

from .closecodes import meaning

__all__ = [
    "AddressInUse",
    "CannotConnect",
    "CannotListen",
    "ConnectionClosed",
    "HandshakeFailed",
    "HandshakeRefused",
    "InvalidURL",
    "NotConnected",
    "RoomsFull",
    "SyncchatError",
]


class SyncchatError(Exception):
    """Base class of every exception that syncchat raises on purpose."""


class InvalidURL(SyncchatError, ValueError):
    """A URL that is no ``ws://host[:port]/path``."""


class CannotListen(SyncchatError, OSError):
    """The server cannot listen at the address that it was given."""


class AddressInUse(CannotListen):
    """Another program listens there already."""


class RoomsFull(SyncchatError):
    """There are as many rooms as there may be."""


class CannotConnect(SyncchatError, ConnectionError):
    """No TCP connection to the server came about."""


class HandshakeFailed(SyncchatError, ConnectionError):
    """The peer's half of the opening handshake (RFC 6455, section 4) is wrong."""


class HandshakeRefused(HandshakeFailed):
    """The server answered the opening handshake with an ordinary HTTP response.

    ``status`` is its HTTP status code, ``body`` the beginning of its body,
    decoded as UTF-8 (at most 1,024 characters).
    """

    def __init__(self, status: int, body: str = "") -> None:
        first_line = body.strip().partition("\n")[0]
        super().__init__(f"HTTP status {status}" + (f": {first_line}" if first_line else ""))
        self.status = status
        self.body = body


class NotConnected(SyncchatError, ConnectionError):
    """There is no connection now, and there may be one later."""


class ConnectionClosed(SyncchatError, ConnectionError):
    """The WebSocket connection is over.

    ``code`` and ``reason`` are those of the closing handshake, as in
    ``WebSocket.close_code``: 1005 where the peer's Close carried no code, 1006
    where the connection ended without a Close (RFC 6455, section 7.1.5).
    """

    def __init__(self, code: int, reason: str = "") -> None:
        suffix = f": {reason}" if reason else ""
        super().__init__(f"connection closed: {meaning(code)}{suffix}")
        self.code = code
        self.reason = reason
