"""Reads and writes all logs in a SQLite file, without an engine, for export and import."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from ..errors import EngineFailed, EngineUnusable
from .archive import Archive, Nonce, Room
from .interface import Message, Position
from .sqlite_file import NONCE_SECONDS, claim, connect, inspect, migrate, rename_rooms
from .sqlite_records import SqliteRecords

__all__ = ["SqliteArchive"]

logger = logging.getLogger("syncchat.engine")


class SqliteArchive(Archive):
    """The logs in the file at ``path``. Raises as :class:`~syncchat.engine.SqliteEngine`."""

    def __init__(self, path: str, valid_names: Callable[[str], Iterator[str]]) -> None:
        self._path = path
        inspect(path)
        try:
            with contextlib.ExitStack() as undo:
                self._claim = undo.enter_context(contextlib.closing(claim(path)))
                self._database = undo.enter_context(contextlib.closing(connect(path)))
                migrate(self._database)
                # As a server does it.
                for old, new in rename_rooms(self._database, valid_names):
                    logger.warning("renamed the room %r of %s to %r", old, path, new)
                self.records = undo.enter_context(contextlib.closing(SqliteRecords(path)))
                undo.pop_all()
        except sqlite3.Error as exc:
            raise EngineUnusable(f"cannot use {path}: {exc}") from exc

    def rooms(self) -> Iterator[Room]:
        query = "SELECT name, epoch, last FROM rooms WHERE last > 0 ORDER BY name"
        return (Room(*row) for row in self._rows(query))

    def find(self, room: str) -> Position | None:
        query = "SELECT epoch, last FROM rooms WHERE name = ? AND last > 0"
        return next((Position(*row) for row in self._rows(query, room)), None)

    def messages(self, room: str, last: int) -> Iterator[Message]:
        query = (
            "SELECT offset, time, nick, text, kind, nonce FROM messages"
            " WHERE room = (SELECT id FROM rooms WHERE name = ?) AND offset <= ? ORDER BY offset"
        )
        return (Message(*row) for row in self._rows(query, room, last))

    def nonces(self, room: str, last: int) -> Iterable[Nonce]:
        query = (
            "SELECT nonce, offset FROM nonces WHERE room = (SELECT id FROM rooms WHERE name = ?)"
            " AND offset <= ? AND time >= ? ORDER BY offset, nonce"
        )
        oldest = time.time() - NONCE_SECONDS
        return (Nonce(*row) for row in self._rows(query, room, last, oldest))

    def add(
        self,
        room: str,
        before: Position | None,
        end: Position,
        messages: Sequence[Message],
        nonces: Sequence[Nonce],
    ) -> None:
        del before  # Nobody else writes.
        try:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                self._add(room, end, messages, nonces)
                self._database.execute("COMMIT")
            finally:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
        except sqlite3.Error as exc:
            raise EngineFailed(f"cannot write to {self._path}: {exc}") from exc

    def _add(
        self, room: str, end: Position, messages: Sequence[Message], nonces: Sequence[Nonce]
    ) -> None:
        database = self._database
        (row,) = database.execute(
            "INSERT INTO rooms (name, epoch, last) VALUES (?, ?, ?) ON CONFLICT (name)"
            " DO UPDATE SET epoch = excluded.epoch, last = excluded.last RETURNING id",
            (room, end.epoch, end.offset),
        ).fetchone()
        database.executemany(
            "INSERT INTO messages (room, offset, time, nick, text, kind, nonce)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            [(row, m.offset, m.time, m.nick, m.text, m.kind, m.nonce) for m in messages],
        )
        # A nonce is as old as its message; one of a message that is not kept, as old as now.
        database.executemany(
            "INSERT OR IGNORE INTO nonces (room, nonce, offset, time) VALUES (?1, ?2, ?3, coalesce("
            "(SELECT time FROM messages WHERE room = ?1 AND offset = ?3), ?4))",
            [(row, each.fingerprint, each.offset, time.time()) for each in nonces],
        )
        # Otherwise the first message that a client says would wait for it.
        database.execute(
            "INSERT INTO texts (rowid, text)"
            " SELECT id, text FROM messages WHERE id > (SELECT indexed FROM state)"
        )
        database.execute("UPDATE state SET indexed = (SELECT coalesce(max(id), 0) FROM messages)")

    def close(self) -> None:
        self.records.close()
        self._database.close()
        self._claim.close()

    def _rows(self, query: str, *values: object) -> Iterator[tuple[Any, ...]]:
        try:
            yield from self._database.execute(query, values)
        except sqlite3.Error as exc:
            raise EngineFailed(f"cannot read {self._path}: {exc}") from exc
