"""Makes a server: its settings, and the parts that its connections share."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Unpack

from .access_policy import AccessPolicy, Authorize, parse_access
from .address import Address
from .follower import Follower
from .http_answer import Route, Routes, View
from .io_thread import IOThread
from .limits import Counters, HostBuckets, Limits, ServerSettings
from .listener import Listener
from .receiver import Conversation, HandlerConversation, shared_reader
from .server import Server
from .server_config import ServerConfig
from .websocket import Handler, WebSocket
from .wsgi_app import WsgiApp, wsgi_route

__all__ = ["serve"]

#: Wrong tokens per second from one address, and at once, after which no token of it is looked at.
_WRONG_TOKENS = (0.2, 20)


def serve(
    handler: Handler | None,
    host: str | None = "127.0.0.1",
    port: int = 0,
    *,
    ssl_context: ssl.SSLContext | None = None,
    subprotocols: Sequence[str] = (),
    response_headers: Sequence[tuple[str, str]] = (),
    origins: Sequence[str] = (),
    public_url: str | None = None,
    trusted_proxies: Sequence[str] | None = None,
    authorize: Authorize | None = None,
    converse: Callable[[WebSocket], Conversation] | None = None,
    on_refused: Callable[[Address, str], None] | None = None,
    on_slow: Callable[[WebSocket | Follower], None] | None = None,
    on_stop: Callable[[], None] | None = None,
    routes: Mapping[str, View | Route] = MappingProxyType({}),
    wsgi: WsgiApp | None = None,
    sockets: Sequence[socket.socket] | None = None,
    **limits: Unpack[ServerSettings],
) -> Server:
    """Return a server that listens at ``host`` and ``port`` and runs ``handler`` for each client.

    ``host`` is an address, or a name for all its addresses; None or ``""``: every address of the
    machine. ``port`` 0: the system chooses. Call :meth:`Server.start` or ``serve_forever`` then.

    - ``ssl_context``: a server-side context; with it the server speaks ``wss:``.
    - ``subprotocols``: the supported subprotocols, the preferred one first.
    - ``response_headers``: names and values, in ASCII, to send with every 101 answer.
    - ``origins``: origins of other hosts' pages that may connect; on loopback, as hosts, too.
    - ``public_url``: the URL for clients behind a proxy; its origin is added to ``origins``.
    - ``trusted_proxies``: addresses, and networks in CIDR notation, whose ``X-Forwarded-For``,
      ``-Proto`` and ``-Host``, or ``Forwarded`` (RFC 7239), count for ``remote_address``,
      ``max_connections_per_address`` and :class:`Request`. None: loopback with a ``public_url``.
    - ``authorize``: called with the :class:`Request` of a handshake; may raise :class:`Refusal`.
    - ``converse``: without a handler, makes each client's :class:`Conversation`; must not block.
    - ``on_refused``: called with the address of a refused client, and the reason.
    - ``on_slow``, ``on_stop``: called for each slow consumer, and before a stop; must not block.
    - ``routes``: a view or :class:`Route` for each path of plain HTTP, or ``/beginning/*``.
    - ``wsgi``: a WSGI application for the requests that are no handshake and have no route.
    - ``sockets``: the caller's listening sockets, instead of new ones.
    - ``limits``: those of :class:`Limits`.

    Raises :class:`AddressInUse`, :class:`CannotListen`, both :class:`OSError`, or ``ValueError``.
    """
    if handler is not None:
        converse = partial(HandlerConversation, handler)
    if converse is None:
        raise TypeError("serve() needs a handler, or converse")
    held_to = Limits(**limits)
    for name, value in response_headers:
        if not f"{name}{value}".isascii():
            raise ValueError(f"the response header {name!r} is not ASCII: {value!r}")
    allowed, proxies = parse_access(origins, public_url, trusted_proxies)
    listener = Listener(host, port, sockets)
    access_policy = AccessPolicy(
        host, listener.addresses, allowed, authorize, proxies, secure=ssl_context is not None
    )
    config = ServerConfig(
        converse,
        IOThread(f"syncchat-io:{listener.addresses[0][1]}"),
        shared_reader(f"syncchat-reader:{listener.addresses[0][1]}"),
        held_to,
        tuple(subprotocols),
        "".join(f"{name}: {value}\r\n" for name, value in response_headers).encode("ascii"),
        Routes(routes if wsgi is None else {"/*": wsgi_route(wsgi), **routes}),
        access_policy,
        ssl_context,
        Counters(),
        on_refused,
        on_slow,
        HostBuckets(held_to.connect_rate, held_to.connect_burst),
        HostBuckets(*_WRONG_TOKENS),
    )
    return Server(listener, config, on_stop)
