"""WebSocket on threads: a broadcast hub for programs without an event loop.

The package does not depend on the chat. Each connection has a thread, which
runs your handler. ``send`` never blocks. A :class:`Group` sends a message to
many connections.

    from syncchat.net import Group, WebSocket, serve

    everybody = Group()

    def handler(websocket: WebSocket) -> None:
        everybody.add(websocket)
        try:
            for message in websocket:
                everybody.send(message)
        finally:
            everybody.discard(websocket)

    serve(handler, "127.0.0.1", 2000).serve_forever()
"""

from .address import Address, format_address
from .connection_thread import Handler
from .connector import connect
from .deadline import Deadline
from .group import Group
from .http import Refusal, Request, Response, View
from .limits import Limits
from .messages import Message
from .server import Server, serve
from .stats import Stats
from .websocket import WebSocket

__all__ = [
    "Address",
    "Deadline",
    "Group",
    "Handler",
    "Limits",
    "Message",
    "Refusal",
    "Request",
    "Response",
    "Server",
    "Stats",
    "View",
    "WebSocket",
    "connect",
    "format_address",
    "serve",
]
