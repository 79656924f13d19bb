"""Engines, which number and store messages: one interface, and its implementations."""

from __future__ import annotations

import importlib.util
import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import EngineUnusable
from .archive import Archive, export_logs, import_logs
from .interface import (
    PAGE_BYTES,
    Appended,
    Deliver,
    DeliverOwn,
    Delivery,
    Draft,
    Engine,
    Entered,
    Kind,
    Log,
    Message,
    Page,
    Position,
    Retention,
    Tail,
)
from .maintenance import ArchiveMaintenance, Maintenance, RoomFigures
from .memory import MemoryEngine
from .presence import (
    Candidate,
    ClaimsChanged,
    Departed,
    Live,
    LiveCodec,
    LiveEvent,
    Person,
    Presence,
    Revoked,
)
from .records import Record, Records
from .sqlite import SqliteEngine
from .sqlite_archive import SqliteArchive
from .sqlite_file import inspect
from .sqlite_maintenance import SqliteMaintenance
from .sqlite_records import SqliteRecords

if TYPE_CHECKING:
    from .redis_append import Appender

__all__ = [
    "PAGE_BYTES",
    "Appended",
    "Archive",
    "Candidate",
    "ClaimsChanged",
    "Deliver",
    "DeliverOwn",
    "Delivery",
    "Departed",
    "Draft",
    "Engine",
    "Entered",
    "Kind",
    "Live",
    "LiveCodec",
    "LiveEvent",
    "Log",
    "Maintenance",
    "MemoryEngine",
    "Message",
    "Page",
    "Person",
    "Position",
    "Presence",
    "Record",
    "Records",
    "Retention",
    "Revoked",
    "RoomFigures",
    "SqliteEngine",
    "Tail",
    "check_engine",
    "check_people",
    "export_logs",
    "import_logs",
    "inspect_engine",
    "open_appender",
    "open_archive",
    "open_engine",
    "open_maintenance",
    "open_records",
]


#: The URLs of Redis: a host and perhaps a port and the number of a database, or a path.
_REDIS = re.compile(
    r"(rediss?://([^@/?#\s]*@)?(\[[0-9A-Fa-f:.]+\]|[^@/?#:\s\[\]]+)(:[0-9]{1,5})?(/[0-9]*)?"
    r"|redis\+sentinel://([^@/?#\s]*@)?[^@/?#\s]+/[^@/?#\s]+(/[0-9]*)?"
    r"|redis\+unix://([^@/?#\s]*@)?/[^?#\s]+)(\?\S*)?"
)


def check_engine(name: str) -> None:
    """Raise :class:`ValueError` if ``name`` names no engine."""
    scheme, _, rest = name.partition(":")
    if (scheme == "memory" and not rest) or (scheme == "sqlite" and rest):
        return
    if _REDIS.fullmatch(name):
        return
    # Not the name of a server: it may contain a password.
    shown = (
        f"{scheme}:..." if scheme in ("redis", "rediss", "redis+unix", "redis+sentinel") else name
    )
    raise ValueError(
        f"{shown!r} is not an engine: it must be memory:, sqlite:PATH, redis://HOST:PORT/DB,"
        " rediss://HOST:PORT/DB, redis+unix://PATH or redis+sentinel://HOST:PORT,.../SERVICE"
    )


def open_engine(
    name: str,
    retention: Retention,
    on_commit: Callable[[float], None] | None = None,
    valid_names: Callable[[str], Iterator[str]] | None = None,
    codec: LiveCodec | None = None,
    *,
    replicas: int = 0,
    people: str | None = None,
) -> Engine:
    """Open the engine ``name``: ``memory:``, ``sqlite:PATH``, or the URL of a Redis server.

    ``on_commit`` is called with the seconds of each transaction, if the engine has transactions.
    ``valid_names``, called with the old name of a room that an earlier version stored, yields
    the names that the room may have now, the best first, without end. The room gets the first
    free one. Redis needs ``codec``, for live events; ``replicas`` is how many replicas of it must
    have a message before it counts as stored. ``people`` is the path of a file for the records of
    ``memory:``; other engines have them themselves.

    Raises :class:`ValueError` for any other name, :class:`TypeError` without a needed codec, and
    :class:`~syncchat.errors.EngineUnusable` if the file or the server cannot be used.
    """
    check_people(name, people)
    scheme, _, rest = name.partition(":")
    match scheme:
        case "memory":
            return MemoryEngine(retention, None if people is None else SqliteRecords(people))
        case "sqlite":
            return SqliteEngine(rest, retention, on_commit, valid_names)
        case _:
            return _open_redis(name, retention, codec, replicas)


def _open_redis(url: str, retention: Retention, codec: LiveCodec | None, replicas: int) -> Engine:
    if codec is None:
        raise TypeError("Redis needs a codec for live events")
    _need_redis()
    from .redis import RedisEngine  # noqa: PLC0415 - an extra

    return RedisEngine(url, retention, codec, replicas=replicas)


def check_people(name: str, people: str | None) -> None:
    """Raise :class:`ValueError` if the engine ``name`` can have no file ``people``, or is none."""
    check_engine(name)
    if people is not None and name != "memory:":
        raise ValueError("a file for people is for memory: only; this engine stores them itself")


def inspect_engine(name: str, people: str | None = None) -> None:
    """Look at the SQLite file of an engine, which a server may use; Redis is not asked.

    ``people`` is as in :func:`open_engine`. Changes nothing. Raises :class:`ValueError` as
    :func:`check_people`, and :class:`~syncchat.errors.EngineUnusable` if the file cannot be used.
    """
    check_people(name, people)
    scheme, _, rest = name.partition(":")
    path = rest if scheme == "sqlite" else people
    if path is not None:
        inspect(path, whole=False)


def open_records(name: str, people: str | None = None) -> Records:
    """Open the records of an engine, also while a server uses it. Close them after use.

    ``people`` is as in :func:`open_engine`. Raises :class:`ValueError` for ``memory:`` without it,
    whose records no other process can see, and otherwise as :func:`open_engine`.
    """
    check_people(name, people)
    if people is not None:
        return SqliteRecords(people)
    scheme, _, rest = name.partition(":")
    match scheme:
        case "memory":
            raise ValueError("memory: keeps people only with a file for them: --people FILE")
        case "sqlite":
            return SqliteRecords(rest)
        case _:
            _need_redis()
            from .redis_records import open_redis_records  # noqa: PLC0415 - an extra

            return open_redis_records(name)


def open_appender(url: str) -> Appender:
    """Open a Redis for appending only. It is reached at the first append.

    Keeps everything: the servers drop what exceeds their retention. Raises :class:`ValueError`
    if ``url`` is not that of a Redis, and :class:`~syncchat.errors.EngineUnusable`.
    """
    if not _REDIS.fullmatch(url):
        raise ValueError("the engine must be a Redis: redis://HOST:PORT/DB")
    _need_redis()
    from .redis_append import Appender  # noqa: PLC0415 - an extra
    from .redis_server import RedisServer  # noqa: PLC0415

    return Appender(RedisServer(url), Retention(), secrets.token_hex(8))


def open_archive(
    name: str, valid_names: Callable[[str], Iterator[str]], *, is_new: bool
) -> Archive:
    """Open all logs of the engine ``name``; ``is_new``: a file that does not exist is created.

    ``valid_names`` is as in :func:`open_engine`. Raises :class:`ValueError` for ``memory:`` and
    for what is no engine, and :class:`~syncchat.errors.EngineUnusable`.
    """
    check_engine(name)
    scheme, _, rest = name.partition(":")
    match scheme:
        case "memory":
            raise ValueError("memory: has no messages: use sqlite:PATH or redis://HOST:PORT/DB")
        case "sqlite":
            if not is_new and not Path(rest).exists():
                raise EngineUnusable(f"cannot use {rest}: it does not exist")
            return SqliteArchive(rest, valid_names)
        case _:
            _need_redis()
            from .redis_archive import RedisArchive  # noqa: PLC0415 - an extra

            return RedisArchive(name)


def open_maintenance(name: str) -> Maintenance:
    """Open the maintenance of the engine ``name``, also while servers use it. Close it after use.

    Raises :class:`ValueError` for ``memory:`` and for what is no engine, and
    :class:`~syncchat.errors.EngineUnusable`.
    """
    scheme, _, rest = name.partition(":")
    if scheme == "sqlite" and rest:
        return SqliteMaintenance(rest)
    # A Redis has no rooms with names of an earlier version.
    return ArchiveMaintenance(open_archive(name, iter, is_new=False))


def _need_redis() -> None:
    if importlib.util.find_spec("redis") is None:
        raise EngineUnusable("Redis needs a package: pip install 'syncchat[redis]'")
