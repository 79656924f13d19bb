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

The parts of a group are public for programs that do more with a message than send it: a
:class:`CombiningQueue` gives the work of all threads one order, and a :class:`Fanout`
writes frames of :func:`encode_frame` to many connections. The rest are the rules for
addresses, URLs and networks, for a program that checks its settings or reports its address.
"""

from .access_policy import TokenCheck, TrustedProxies, bearer, parse_network, shown_tokens
from .address import (
    Address,
    are_loopback,
    format_address,
    is_loopback,
    is_wildcard,
    parse_origin,
    parse_public_url,
    route_to,
)
from .combining_queue import CombiningQueue
from .connector import connect, parse_url
from .follower import Follower, Following
from .group import Fanout, Group, Recipient
from .http import Body, Refusal, Request
from .http_answer import Response, Route, View, encode_chunk
from .io_thread import Deadline
from .limits import HostBuckets, Limits, ServerSettings, Stats, TokenBucket
from .listener import listen_for_each, share_sockets
from .protocol import Message, encode_frame
from .receiver import Conversation, Later, Take
from .server import Server
from .serving import serve
from .tls import tls_reason
from .websocket import Handler, WebSocket
from .wsgi_app import WsgiApp, wsgi_view

__all__ = [
    "Address",
    "Body",
    "CombiningQueue",
    "Conversation",
    "Deadline",
    "Fanout",
    "Follower",
    "Following",
    "Group",
    "Handler",
    "HostBuckets",
    "Later",
    "Limits",
    "Message",
    "Recipient",
    "Refusal",
    "Request",
    "Response",
    "Route",
    "Server",
    "ServerSettings",
    "Stats",
    "Take",
    "TokenBucket",
    "TokenCheck",
    "TrustedProxies",
    "View",
    "WebSocket",
    "WsgiApp",
    "are_loopback",
    "bearer",
    "connect",
    "encode_chunk",
    "encode_frame",
    "format_address",
    "is_loopback",
    "is_wildcard",
    "listen_for_each",
    "parse_network",
    "parse_origin",
    "parse_public_url",
    "parse_url",
    "route_to",
    "serve",
    "share_sockets",
    "shown_tokens",
    "tls_reason",
    "wsgi_view",
]
