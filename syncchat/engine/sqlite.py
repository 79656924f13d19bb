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
from urllib.parse import quote

from ..net import Deadline
from .interface import (
    Draft,
    EngineFailed,
    EngineUnusable,
    Entry,
    Keep,
    Page,
    Position,
    fingerprint,
    fitting,
    new_epoch,
)
from .local import LocalEngine
from .schema import APPLICATION_ID, MIGRATIONS, TABLES, VERSION

__all__ = ["SqliteEngine"]

logger = logging.getLogger("syncchat.engine")

#: Seconds that one process waits for another's transaction.
_BUSY_SECONDS = 5.0

#: And for another server that is about to end.
_CLAIM_SECONDS = 2.0

#: Seconds for which a nonce is known: a laptop may be closed over a weekend, and
#: send what was not acknowledged when it is opened.
_NONCE_SECONDS = 7 * 86400.0

#: Messages whose words are indexed at once.
_INDEX_EVERY = 500

#: Seconds that a search may take, and virtual machine steps between two looks at the clock.
_SEARCH_SECONDS = 2.0
_SEARCH_STEPS = 10_000

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
        #: And for the one that searches, which may take long. First in their order.
        self._search_lock = threading.Lock()
        try:
            with contextlib.ExitStack() as undo:
                self._claim = _claim(path)
                undo.callback(self._claim.close)
                self._writer = _connect(path)
                undo.callback(self._writer.close)
                _migrate(self._writer)
                self._reader = _connect(path)
                undo.callback(self._reader.close)
                self._searcher = _connect(path)
                undo.callback(self._searcher.close)
                undo.pop_all()
        except sqlite3.Error as exc:
            raise EngineUnusable(f"cannot use {path}: {exc}") from exc
        #: Messages, about, whose words no search would find yet.
        self._unindexed = _INDEX_EVERY
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
                key = fingerprint(draft)
                if key is not None:
                    known = database.execute(
                        "INSERT INTO nonces (room, nonce, offset, time) VALUES (?, ?, ?, ?)"
                        " ON CONFLICT (room, nonce) DO UPDATE SET offset = offset"
                        " RETURNING offset",
                        (row, key, offset, now),
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
            unindexed = self._unindexed + last - before
            if unindexed >= _INDEX_EVERY:
                unindexed = self._index_locked()
            database.execute("COMMIT")
            self._rooms[room] = row, epoch, last
            self._unindexed = unindexed
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
        found, whole = self._select(
            room,
            "offset > ? AND offset <= ? ORDER BY offset",
            limit,
            position.offset,
            end.offset,
        )
        return Page(tuple(found), whole and len(found) == end.offset - position.offset)

    def read_before(self, room: str, offset: int | None, limit: int) -> Page:
        end = self.position(room).offset + 1 if offset is None else offset
        found, whole = self._select(room, "offset < ? ORDER BY offset DESC", limit, end)
        return Page(tuple(found[::-1]), whole)

    def search(self, room: str, words: str, limit: int) -> list[Entry]:
        # Each word as a string of FTS5's, so that nothing in it is an operator.
        query = " ".join('"{}"*'.format(word.replace('"', '""')) for word in {*words.split()})
        if not query:
            return []
        with self._lock:
            if self._unindexed:
                with self._transaction() as database:
                    self._index_locked()
                    database.execute("COMMIT")
                    self._unindexed = 0
        where = "id IN (SELECT rowid FROM texts WHERE texts MATCH ?) ORDER BY offset DESC"
        with self._search_lock:
            deadline = Deadline.after(_SEARCH_SECONDS)
            self._searcher.set_progress_handler(lambda: deadline.expired, _SEARCH_STEPS)
            return self._select(room, where, limit, query, searching=True)[0]

    def keeps(self, room: str) -> bool:
        return bool(self._select(room, "1", 1)[0])

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
        query = (
            "SELECT name FROM rooms WHERE EXISTS (SELECT 1 FROM messages"
            " WHERE messages.room = rooms.id AND time >= ?) ORDER BY name"
        )
        try:
            with self._read_lock:
                rows = self._reader.execute(query, (self._oldest(),)).fetchall()
        except sqlite3.Error as exc:
            raise EngineFailed(str(exc)) from exc
        return [name for (name,) in rows]

    def close(self) -> None:
        for database in (self._searcher, self._reader):
            # A search has time; a stop has not.
            database.interrupt()
        with self._lock, self._read_lock, self._search_lock:
            for database in (self._searcher, self._reader, self._writer, self._claim):
                database.close()

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
            # A disk that is full may have rolled back already, and a stop may
            # have closed it.
            with contextlib.suppress(sqlite3.Error):
                if database.in_transaction:
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

    def _index_locked(self) -> int:
        """Put the words of new messages where a search finds them; none is left."""
        self._writer.execute(
            "INSERT INTO texts (rowid, text)"
            " SELECT id, text FROM messages WHERE id > (SELECT upto FROM indexed)"
        )
        self._writer.execute(
            "UPDATE indexed SET upto = (SELECT coalesce(max(id), 0) FROM messages)"
        )
        return 0

    def _drop_locked(self, row: int, last: int, now: float) -> None:
        """Let go of what is too much or too old."""
        self._writer.execute("DELETE FROM nonces WHERE time < ?", (now - _NONCE_SECONDS,))
        if self._keep.messages is not None:
            self._writer.execute(
                "DELETE FROM messages WHERE room = ? AND offset <= ?",
                (row, last - self._keep.messages),
            )
        if self._keep.seconds is not None:
            # Of every room: of some of them nobody may speak again.
            self._writer.execute("DELETE FROM messages WHERE time < ?", (now - self._keep.seconds,))

    def _select(
        self, room: str, where: str, limit: int, *values: object, searching: bool = False
    ) -> tuple[list[Entry], bool]:
        """A page of what is selected, and whether that is all."""
        query = (
            f"SELECT {_COLUMNS} FROM messages WHERE"  # noqa: S608 - our own words only
            f" room = (SELECT id FROM rooms WHERE name = ?) AND time >= ? AND {where}"
        )
        values = (room, self._oldest(), *values)
        try:
            if searching:
                return _page(self._searcher.execute(query, values), limit)
            with self._read_lock:
                return _page(self._reader.execute(query, values), limit)
        except sqlite3.Error as exc:
            raise EngineFailed(str(exc)) from exc

    def _oldest(self) -> float:
        """The time before which nothing is kept."""
        return -1.0 if self._keep.seconds is None else time.time() - self._keep.seconds


def _page(rows: sqlite3.Cursor, limit: int) -> tuple[list[Entry], bool]:
    with contextlib.closing(rows):
        return fitting((Entry(*row) for row in rows), limit)


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


def _claim(path: str) -> sqlite3.Connection:
    """Keep other servers away from ``path`` until this is closed, or the process ends.

    What this server remembers of the file would not be true for long. By a file
    beside it, since in the file itself a lock would shut out its own readers.
    """
    database = sqlite3.connect(
        f"{path}-lock", timeout=_CLAIM_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        database.execute("BEGIN EXCLUSIVE")
    except sqlite3.Error as exc:
        database.close()
        if exc.sqlite_errorcode == sqlite3.SQLITE_BUSY:
            raise EngineUnusable(f"cannot use {path}: another server does") from exc
        raise
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
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
            if application != APPLICATION_ID and tables:
                raise EngineUnusable(f"cannot use {path}: it is another program's database")
            if version > VERSION:
                raise EngineUnusable(f"cannot use {path}: a later version of syncchat made it")
            if version and not tables >= TABLES:
                raise EngineUnusable(f"cannot use {path}: it is damaged: it lacks a table")
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
