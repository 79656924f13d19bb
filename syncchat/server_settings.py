"""The settings of :class:`~syncchat.ChatServer`, in groups of typed keywords."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict, TypeVar, cast

from .chat.events import ClientLimits
from .chat.gate import Guests
from .chat.hooks import Heard, Visitor
from .chat.nicks import MAX_NICK
from .engine import Retention
from .health import Siblings
from .net import Limits, Route, ServerSettings, View, WsgiApp

__all__ = [
    "AccessSettings",
    "ChangeableSettings",
    "ChatServerSettings",
    "ChatSettings",
    "HookSettings",
    "HttpSettings",
    "LogSettings",
    "PeopleSettings",
    "StorageSettings",
    "client_limits",
    "taken",
]

SettingsT = TypeVar("SettingsT", bound=Mapping[str, object])


class ChatSettings(TypedDict, total=False):
    """Settings for rooms.

    - ``greeting``: the first message to a new client; empty for none. A client that
      has received the greeting receives every later message of the room.
    - ``format``: how a message is shown, with ``{sender}`` and ``{text}``.
    - ``echo``: whether the sender of a message receives it too; True by default.
    - ``read_only``: rooms in which only the server speaks, and clients with the
      ``speaker_token`` of :class:`ChatServer`.
    - ``notices``: whether a room is told who joins, leaves, is renamed, or is away; True by
      default.
    """

    greeting: str
    format: str
    echo: bool
    read_only: Sequence[str]
    notices: bool


class StorageSettings(TypedDict, total=False):
    """Where messages are kept, and how many.

    - ``engine``: ``memory:`` (the default), ``sqlite:PATH``, or the URL of a Redis that several
      servers share: ``redis://HOST:PORT/DB``, ``rediss://...`` or ``redis+unix://PATH``.
    - ``keep``: the retention of each room; by default 1,000 messages for ``memory:``, and
      10,000 for Redis.
    - ``redis_replicas``: how many replicas of Redis must have a message before its sender is
      told that it is stored; 0 by default.
    - ``max_rooms``: rooms at a time, including empty rooms for which messages are kept.
    """

    engine: str
    keep: Retention | None
    redis_replicas: int
    max_rooms: int


class AccessSettings(TypedDict, total=False):
    """Who may connect, how and where: as in :func:`syncchat.net.serve`."""

    sockets: Sequence[socket.socket] | None
    ssl_context: ssl.SSLContext | None
    origins: Sequence[str]
    public_url: str | None
    trusted_proxies: Sequence[str] | None


class PeopleSettings(TypedDict, total=False):
    """People with tokens of their own, which ``syncchat-server people add`` gives them.

    - ``guests``: ``"yes"`` (the default) lets in everybody else, too; ``"no"`` lets in nobody
      else; with ``"read"``, everybody else may only read. If there is a ``token``, guests have to
      show it.
    - ``people``: the path of an SQLite file for the people and for what operators decide, with
      the engine ``memory:``. Other engines keep them themselves. None: they are kept until the
      server stops.
    - ``robot_rate``: messages per second that are read from a person that is a robot, instead of
      ``rate``; 100 by default, 0 for no limit. Without a ``rate``, robots have none either.
    """

    guests: Guests
    people: str | None
    robot_rate: float


class HookSettings(TypedDict, total=False):
    """Callbacks for what clients do. None: no callback.

    The callbacks run on the thread of their client, and may take their time: only this client
    waits. With one of them, each client has a thread. They may call every method of the server.

    - ``on_message(heard)``: called with each message of a client, before it is kept. Returns the
      text to keep instead, or None to keep it as it is. After an exception, the message is not
      kept: the client is told the text of a :class:`~syncchat.errors.Rejected`; any other
      exception is logged.
    - ``on_join(visitor)``: called with each client that enters a room, before it gets anything,
      and before the others are told. It gets what is said there from then on. After an exception
      as above, it does not enter: it is closed with 1008, or stays in the room that it was in.
    - ``on_leave(visitor)``: called with each client that ``on_join`` has let in, after it has
      left the room. Its exceptions are logged.
    """

    on_message: Callable[[Heard], str | None] | None
    on_join: Callable[[Visitor], object] | None
    on_leave: Callable[[Visitor], object] | None


class LogSettings(TypedDict, total=False):
    """The event log.

    - ``log``: called with each line, without its newline, on the thread where the event
      happened. Calls may overlap, and ``log`` must not block: it may run on a thread that
      serves all clients; if it blocks, the whole server blocks. None (the default): no log.
    - ``log_json``: log as JSON, for machines.
    - ``log_start``: whether the log begins with ``listening``; True by default.
    - ``log_level``: the lowest level that is logged, as in :mod:`logging`; ``INFO`` by default.
    - ``log_messages``: whether to log what people say; True by default.
    - ``log_mask``: log the networks of clients (/24, /48) instead of their addresses.
    - ``log_priorities``: begin each line with its priority, ``<6>``, for systemd's journal.
    """

    log: Callable[[str], None] | None
    log_json: bool
    log_start: bool
    log_level: int
    log_messages: bool
    log_mask: bool
    log_priorities: bool


class ChangeableSettings(TypedDict, total=False):
    """The settings that :meth:`ChatServer.reconfigure` changes."""

    token: str | None
    speaker_token: str | None
    ssl_context: ssl.SSLContext | None
    origins: Sequence[str]
    public_url: str | None
    trusted_proxies: Sequence[str] | None
    log_level: int
    log_messages: bool
    log_mask: bool


class HttpSettings(TypedDict, total=False):
    """Settings for plain HTTP requests.

    - ``web``: whether browsers get the chat as a page, at the URL of a room; True by default,
      without ``wsgi``.
    - ``http``: whether rooms can be used over plain HTTP, too: ``POST`` says something, and ``GET``
      follows or reads; True by default, without ``wsgi``.
    - ``wsgi``: a WSGI application for the requests that are neither WebSocket nor chat.
    - ``routes``: further views, as in :func:`syncchat.net.serve`. The server adds the routes
      ``/healthz`` and ``/metrics``, for requests from this machine or with the token.
    - ``siblings``: returns the snapshots of other servers on the same port. ``/metrics`` sums over
      them, and ``/healthz`` tells the worst.
    """

    web: bool
    http: bool
    wsgi: WsgiApp | None
    routes: Mapping[str, View | Route]
    siblings: Siblings


class ChatServerSettings(
    ChatSettings,
    HookSettings,
    StorageSettings,
    AccessSettings,
    PeopleSettings,
    LogSettings,
    HttpSettings,
    ServerSettings,
    total=False,
):
    """Keyword arguments of :class:`ChatServer`."""


def taken(group: type[SettingsT], settings: dict[str, Any]) -> SettingsT:
    """Take the settings of one group out of ``settings``."""
    names = settings.keys() & group.__annotations__.keys()
    return cast("SettingsT", {name: settings.pop(name) for name in names})


def client_limits(limits: Limits) -> ClientLimits:
    """The limits of which clients are told."""
    return ClientLimits(limits.max_message, MAX_NICK, limits.rate, limits.burst)
