"""The engine for one server that must not forget: an SQLite file.

A batch is one transaction (group commit), in the write-ahead log and flushed
to the disk (``synchronous=FULL``) before ``append`` returns.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .interface import (
    NONCES,
    Draft,
    EngineFailed,
    EngineUnusable,
    Entry,
    Keep,
    Page,
    Position,
    new_epoch,
)
from .local import LocalEngine
from .schema import APPLICATION_ID, MIGRATIONS, VERSION

__all__ = ["SqliteEngine"]

logger = logging.getLogger("syncchat.engine")

#: Seconds that one process waits for another's transaction.
_BUSY_SECONDS = 5.0

_COLUMNS = "offset, time, nick, text, kind, nonce"


class SqliteEngine(LocalEngine):
    """Logs in the file at ``path``, which is made if there is none.

    Raises :class:`EngineUnusable`, whose text is a line for people, for a file
    that is damaged, of another program, or of a later version of this one; it
    is left as it is.
    """

    def __init__(self, path: str, keep: Keep) -> None:
        super().__init__()
        self._path = path
        self._keep = keep
        _inspect(path)
        #: Guards the connection that writes, and the numbers below. No other lock
        #: is taken under it.
        self._lock = threading.Lock()
        #: The same for the connection that reads, so that who reads history
        #: does not wait for a commit.
        self._read_lock = threading.Lock()
        try:
            with contextlib.ExitStack() as undo:
                self._writer = _connect(path)
                undo.callback(self._writer.close)
                _migrate(self._writer)
                self._reader = _connect(path)
                undo.pop_all()
        except sqlite3.Error as exc:
            raise EngineUnusable(f"cannot use {path}: {exc}") from exc
        #: The last transaction failed, and the operator has been told.
        self._failing = False
        #: Each room's row, epoch and last offset, as far as they have been asked for.
        self._rooms: dict[str, tuple[int, str, int]] = {}

    def append(self, room: str, drafts: Sequence[Draft]) -> list[Entry]:
        now = time.time()
        with self._lock, self._transaction() as database:
            row, epoch, before = self._room_locked(room)
            last = before
            entries = []
            for draft in drafts:
                offset = last + 1
                if draft.nonce is not None:
                    known = database.execute(
                        "INSERT INTO nonces (room, nonce, offset) VALUES (?, ?, ?)"
                        " ON CONFLICT (room, nonce) DO UPDATE SET offset = offset"
                        " RETURNING offset",
                        (row, draft.nonce, offset),
                    ).fetchone()
                    offset = known[0]
                entry = Entry(offset, now, draft.nick, draft.text, draft.kind, draft.nonce)
                entries.append(entry)
                if offset <= last:
                    continue
                last = offset
                database.execute(
                    "INSERT INTO messages (room, offset, time, nick, text, kind, nonce)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (row, last, now, entry.nick, entry.text, entry.kind, entry.nonce),
                )
            database.execute("UPDATE rooms SET last = ? WHERE id = ?", (last, row))
            self._drop_locked(row, last, now)
            database.execute("COMMIT")
            self._rooms[room] = row, epoch, last
        self._deliver_new(room, entries, before)
        return entries

    def position(self, room: str) -> Position:
        with self._lock:
            known = self._rooms.get(room)
            if known is None:
                with self._transaction() as database:
                    known = self._room_locked(room)
                    database.execute("COMMIT")
                    self._rooms[room] = known
        return Position(known[1], known[2])

    def read_after(self, room: str, position: Position, limit: int) -> Page:
        end = self.position(room)
        if position.epoch != end.epoch or position.offset > end.offset:
            return Page((), complete=False)
        found = self._select(
            room,
            "offset > ? AND offset <= ? ORDER BY offset LIMIT ?",
            position.offset,
            end.offset,
            limit,
        )
        return Page(tuple(found), complete=len(found) == end.offset - position.offset)

    def read_before(self, room: str, offset: int | None, limit: int) -> Page:
        end = self.position(room).offset + 1 if offset is None else offset
        found = self._select(room, "offset < ? ORDER BY offset DESC LIMIT ?", end, limit + 1)
        return Page(tuple(found[:limit][::-1]), complete=len(found) <= limit)

    def search(self, room: str, words: str, limit: int) -> list[Entry]:
        # Each word as a string of FTS5's, so that nothing in it is an operator.
        query = " ".join('"{}"*'.format(word.replace('"', '""')) for word in words.split())
        if not query:
            return []
        return self._select(
            room,
            "id IN (SELECT rowid FROM texts WHERE texts MATCH ?) ORDER BY offset DESC LIMIT ?",
            query,
            limit,
        )

    def keeps(self, room: str) -> bool:
        return bool(self._select(room, "1 LIMIT 1"))

    def forget(self, room: str) -> None:
        with self._lock:
            self._rooms.pop(room, None)
            with self._transaction() as database:
                for table in ("nonces WHERE room", "rooms WHERE id"):
                    database.execute(
                        f"DELETE FROM {table} = (SELECT id FROM rooms WHERE name = ? AND NOT EXISTS"  # noqa: S608
                        " (SELECT 1 FROM messages WHERE messages.room = rooms.id))",
                        (room,),
                    )
                database.execute("COMMIT")

    def rooms(self) -> list[str]:
        rows = self._read(
            "SELECT name FROM rooms WHERE EXISTS (SELECT 1 FROM messages"
            " WHERE messages.room = rooms.id AND time >= ?) ORDER BY name",
            self._oldest(),
        )
        return [name for (name,) in rows]

    def close(self) -> None:
        with self._lock, self._read_lock:
            self._reader.close()
            self._writer.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All of the block or nothing. The block commits."""
        database = self._writer
        try:
            database.execute("BEGIN IMMEDIATE")
            yield database
        except sqlite3.Error as exc:
            if not self._failing:
                self._failing = True
                logger.error("cannot write to %s: %s", self._path, exc)  # noqa: TRY400 - for people
            raise EngineFailed(str(exc)) from exc
        else:
            if self._failing:
                self._failing = False
                logger.warning("writing to %s works again", self._path)
        finally:
            if database.in_transaction:
                # A disk that is full may have rolled back already.
                with contextlib.suppress(sqlite3.Error):
                    database.execute("ROLLBACK")

    def _room_locked(self, room: str) -> tuple[int, str, int]:
        """The room's row, made if there is none."""
        known = self._rooms.get(room)
        if known is not None:
            return known
        self._writer.execute(
            "INSERT OR IGNORE INTO rooms (name, epoch, last) VALUES (?, ?, 0)", (room, new_epoch())
        )
        found: tuple[int, str, int] = self._writer.execute(
            "SELECT id, epoch, last FROM rooms WHERE name = ?", (room,)
        ).fetchone()
        return found

    def _drop_locked(self, row: int, last: int, now: float) -> None:
        """Let go of what is too much or too old."""
        self._writer.execute(
            "DELETE FROM nonces WHERE room = ? AND offset <= ?", (row, last - NONCES)
        )
        if self._keep.messages is not None:
            self._writer.execute(
                "DELETE FROM messages WHERE room = ? AND offset <= ?",
                (row, last - self._keep.messages),
            )
        if self._keep.seconds is not None:
            # Of every room: of some of them nobody may speak again.
            self._writer.execute("DELETE FROM messages WHERE time < ?", (now - self._keep.seconds,))

    def _select(self, room: str, where: str, *values: object) -> list[Entry]:
        rows = self._read(
            f"SELECT {_COLUMNS} FROM messages WHERE"  # noqa: S608 - our own words only
            f" room = (SELECT id FROM rooms WHERE name = ?) AND time >= ? AND {where}",
            room,
            self._oldest(),
            *values,
        )
        return [Entry(*row) for row in rows]

    def _oldest(self) -> float:
        """The time before which nothing is kept."""
        return -1.0 if self._keep.seconds is None else time.time() - self._keep.seconds

    def _read(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        try:
            with self._read_lock:
                return self._reader.execute(query, values).fetchall()
        except sqlite3.Error as exc:
            raise EngineFailed(str(exc)) from exc


def _connect(path: str, mode: str = "rwc") -> sqlite3.Connection:
    """A connection that any thread may use, under a lock; without Python's own transactions."""
    database = sqlite3.connect(
        f"file:{quote(path)}?mode={mode}",
        uri=True,
        timeout=_BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )
    if mode != "ro":
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
    return database


def _inspect(path: str) -> None:
    """Raise :class:`EngineUnusable` for a file that is not ours or not whole; changes nothing."""
    place = Path(path)
    # SQLite's own words for these would lead astray.
    if place.is_dir():
        raise EngineUnusable(f"cannot use {path}: it is a folder")
    if not place.parent.is_dir():
        raise EngineUnusable(f"cannot use {path}: there is no folder {place.parent}")
    if not place.exists():
        return
    try:
        with contextlib.closing(_connect(path, "ro")) as database:
            (application,) = database.execute("PRAGMA application_id").fetchone()
            (version,) = database.execute("PRAGMA user_version").fetchone()
            tables = database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if application != APPLICATION_ID and tables:
                raise EngineUnusable(f"cannot use {path}: it is another program's database")
            if version > VERSION:
                raise EngineUnusable(f"cannot use {path}: a later version of syncchat made it")
            (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as exc:
        raise EngineUnusable(f"cannot use {path}: {exc}") from exc
    if verdict != "ok":
        raise EngineUnusable(f"cannot use {path}: it is damaged: {' '.join(verdict.split())}")


def _migrate(database: sqlite3.Connection) -> None:
    """Bring the schema to the present version, step by step, all or nothing."""
    database.execute("BEGIN IMMEDIATE")
    try:
        (version,) = database.execute("PRAGMA user_version").fetchone()
        for step in MIGRATIONS[version:]:
            for statement in step:
                database.execute(statement)
        database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        database.execute(f"PRAGMA user_version = {VERSION}")
        database.execute("COMMIT")
    finally:
        if database.in_transaction:
            database.execute("ROLLBACK")
