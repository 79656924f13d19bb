"""Opens the engine and the rooms of a chat server."""

from __future__ import annotations

from ._version import __version__
from .chat import events
from .chat.directory import Directory
from .chat.hooks import ReadOnly
from .chat.room_names import valid_names
from .chat.room_settings import RoomSettings
from .chat.rooms import RoomRegistry
from .chat.watching import Watches
from .engine import Retention, open_engine
from .errors import EngineFailed, EngineUnusable
from .health import Metrics
from .net import Limits, Server
from .server_settings import ChatSettings, PeopleSettings, StorageSettings, client_limits

__all__ = ["DEFAULT_FORMAT", "DEFAULT_GREETING", "DEFAULT_ROOMS", "open_rooms"]

DEFAULT_GREETING = "Welcome to chat! Type a message"
DEFAULT_FORMAT = "{sender}: {text}"

#: Rooms at a time, including empty rooms for which messages are kept.
DEFAULT_ROOMS = 10_000


def open_rooms(
    server: Server,
    metrics: Metrics,
    limits: Limits,
    chat: ChatSettings,
    storage: StorageSettings,
    people: PeopleSettings,
    robot_rate: float,
    read_only: ReadOnly,
) -> RoomRegistry:
    """The rooms of a server, and its engine, which :meth:`RoomRegistry.close` closes.

    Raises :class:`EngineUnusable`.
    """
    welcome = events.Welcome(
        room="",
        nick="",
        epoch="",
        offset=0,
        members=[],
        server=f"syncchat {__version__}",
        limits=client_limits(limits),
        format=chat.get("format", DEFAULT_FORMAT),
        greeting=chat.get("greeting", DEFAULT_GREETING),
        notices=chat.get("notices", True),
    )
    echo = chat.get("echo", True)
    engine = open_engine(
        storage.get("engine", "memory:"),
        storage.get("keep") or Retention(),
        lambda seconds: metrics.commit.observe([seconds]),
        valid_names,
        events.LIVE_CODEC,
        replicas=storage.get("redis_replicas", 0),
        people=people.get("people"),
    )
    try:
        try:
            directory = Directory(engine.records)
        except EngineFailed as exc:
            raise EngineUnusable(f"cannot read the people and bans: {exc}") from exc
        settings = RoomSettings(
            directory,
            robot_rate,
            welcome,
            echo,
            metrics.note_batch,
            server.call_at,
            Watches(server.call_at, directory),
            read_only,
        )
        return RoomRegistry(engine, settings, storage.get("max_rooms", DEFAULT_ROOMS))
    except BaseException:
        engine.close()
        raise
