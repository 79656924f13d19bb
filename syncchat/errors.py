"""Every exception that a program can meet in syncchat, besides built-in ones.

All of them derive from :class:`SyncchatError`. Most also derive from a built-in
class that you can catch instead (``ConnectionError``, ``OSError``,
``ValueError``). Time limits raise the built-in :class:`TimeoutError`, invalid
arguments :class:`ValueError` or :class:`TypeError`, and calls in the wrong state,
such as a second start, :class:`RuntimeError`.

:class:`syncchat.net.Refusal` is not an error: your own views raise it to answer
a request.
"""

from __future__ import annotations

from .closecodes import meaning

__all__ = [
    "AddressInUse",
    "AppendUnknown",
    "BadEvent",
    "BadNick",
    "BadRoom",
    "CannotConnect",
    "CannotListen",
    "ConnectionClosed",
    "EngineFailed",
    "EngineUnusable",
    "HandshakeFailed",
    "HandshakeRefused",
    "InvalidURL",
    "NickTaken",
    "NotConnected",
    "OutboxFull",
    "Rejected",
    "RoomsFull",
    "SyncchatError",
]


class SyncchatError(Exception):
    """Base class of every exception that syncchat raises on purpose."""


class InvalidURL(SyncchatError, ValueError):
    """The URL is not of the form ``ws://host[:port]/path`` (or ``wss:``)."""


class CannotListen(SyncchatError, OSError):
    """The server cannot listen on the given address."""


class AddressInUse(CannotListen):
    """Another program already listens on the address."""


class RoomsFull(SyncchatError):
    """The server's maximum number of rooms is reached."""


class BadNick(SyncchatError, ValueError):
    """A text is not a valid nick; the message tells the user why."""


class NickTaken(BadNick):
    """Somebody in the room has the nick."""


class BadRoom(SyncchatError, ValueError):
    """A text is not a valid room name; the message tells the user why."""


class BadEvent(SyncchatError):
    """A text is not a valid event of ``syncchat.v1``; the message says why, and names the field.

    ``command`` is the ``type`` that the text has, None if it has none.
    """

    def __init__(self, text: str, command: str | None = None) -> None:
        super().__init__(text)
        self.command = command


class EngineUnusable(SyncchatError, OSError):
    """The engine cannot be opened, for example because its file is damaged."""


class EngineFailed(SyncchatError, OSError):
    """The engine cannot do this now, for example on a full disk. Nothing is changed."""


class AppendUnknown(EngineFailed):
    """It is not known whether the engine has stored the messages: its answer is missing."""


class CannotConnect(SyncchatError, ConnectionError):
    """The TCP connection to the server, or its TLS handshake, failed."""


class HandshakeFailed(SyncchatError, ConnectionError):
    """The peer's part of the opening handshake (RFC 6455, section 4) is wrong."""


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
    """There is no connection now; there may be one later."""


class OutboxFull(SyncchatError, TimeoutError):
    """So many messages wait for an acknowledgement that the client takes no other one yet."""


class Rejected(SyncchatError):
    """Raise it in ``on_message`` or ``on_join`` to refuse: the client is told its text."""


class ConnectionClosed(SyncchatError, ConnectionError):
    """The WebSocket connection is over.

    ``code`` and ``reason`` are those of the closing handshake, as in
    ``WebSocket.close_code``: 1005 if the peer's Close carried no code, 1006
    if the connection ended without a Close (RFC 6455, section 7.1.5).
    """

    def __init__(self, code: int, reason: str = "") -> None:
        suffix = f": {reason}" if reason else ""
        super().__init__(f"connection closed: {meaning(code)}{suffix}")
        self.code = code
        self.reason = reason
