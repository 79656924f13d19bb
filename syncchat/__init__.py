"""A chat room, and a WebSocket broadcast hub for programs with threads and no event loop.

:class:`ChatServer` and :class:`Client` are the chat; :mod:`syncchat.logging` sends log records to
it, and :mod:`syncchat.wsgi` has WebSockets in the views of a WSGI server. ``events`` has the events
that server and client exchange, :mod:`syncchat.net` is the WebSocket hub below the chat, and
:mod:`syncchat.errors` has the exceptions of both.
"""

from ._version import __version__
from .chat import events
from .chat.hooks import Heard, Visitor
from .client import Client, Clients, Disconnected, Gap, Line, Reconnected, Sent
from .engine import Retention
from .errors import (
    AddressInUse,
    AppendUnknown,
    BadEvent,
    BadNick,
    BadRoom,
    CannotConnect,
    CannotListen,
    ConnectionClosed,
    EngineFailed,
    EngineUnusable,
    HandshakeFailed,
    HandshakeRefused,
    InvalidURL,
    NickTaken,
    NotConnected,
    OutboxFull,
    Rejected,
    RoomsFull,
    SyncchatError,
)
from .publisher import Publisher
from .server import ChatServer

__all__ = [
    "AddressInUse",
    "AppendUnknown",
    "BadEvent",
    "BadNick",
    "BadRoom",
    "CannotConnect",
    "CannotListen",
    "ChatServer",
    "Client",
    "Clients",
    "ConnectionClosed",
    "Disconnected",
    "EngineFailed",
    "EngineUnusable",
    "Gap",
    "HandshakeFailed",
    "HandshakeRefused",
    "Heard",
    "InvalidURL",
    "Line",
    "NickTaken",
    "NotConnected",
    "OutboxFull",
    "Publisher",
    "Reconnected",
    "Rejected",
    "Retention",
    "RoomsFull",
    "Sent",
    "SyncchatError",
    "Visitor",
    "__version__",
    "events",
]
