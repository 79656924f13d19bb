"""The engine for one server that must not forget: an SQLite file.

A batch is one transaction (group commit), in the write-ahead log and flushed
to the disk (``synchronous=FULL``) before ``append`` returns.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence

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
)
from .local import LocalEngine
from .search_throttle import SearchThrottle
from .sqlite_file import claim, connect, inspect, migrate, rename_rooms

__all__ = ["SqliteEngine"]

logger = logging.getLogger("syncchat.engine")

#: Seconds that a transaction waits for another program's, and between two tries.
_BUSY_SECONDS = 2.0
_TRY_AGAIN = 0.01

#: Seconds for which a nonce is known: a laptop may be closed over a weekend, and
#: send what was not acknowledged when it is opened.
_NONCE_SECONDS = 7 * 86400.0
#: The same where only so much is to be kept.
_NONCE_SECONDS_FEW = 86400.0

#: Messages whose words are indexed at once.
_INDEX_EVERY = 500

#: Steps of SQLite's virtual machine between two looks at the clock.
_SEARCH_STEPS = 10_000

_COLUMNS = "offset, time, nick, text, kind, nonce"


class SqliteEngine(LocalEngine):
    """Logs in the file at ``path``, which is made if there is none.

    Raises :class:`EngineUnusable`, whose text is a line for people, for a file
    that is damaged, of another program, or of a later version of this one; it
    is left as it is.
    """

    def __init__(
        self,
        path: str,
        keep: Keep,
        on_commit: Callable[[float], None] | None = None,
        valid_names: Callable[[str], Iterator[str]] | None = None,
    ) -> None:
        super().__init__()
        self._on_commit = on_commit
        self._path = path
        self._keep = keep
        self._nonce_seconds = _NONCE_SECONDS if keep == Keep() else _NONCE_SECONDS_FEW
        inspect(path)
        #: Guards the connection that writes, and the numbers below. No other lock
        #: is taken under it.
        self._lock = threading.Lock()
        #: The same for the connection that reads, so that who reads history
        #: does not wait for a commit.
        self._read_lock = threading.Lock()
        #: And for the one that searches, which may take long.
        self._throttle = SearchThrottle()
        #: The engine is about to be closed: nobody waits for anything.
        self._closing = threading.Event()
        try:
            with contextlib.ExitStack() as undo:
                self._claim = claim(path)
                undo.callback(self._claim.close)
                # It waits for others by itself, since that must be interruptible.
                self._writer = connect(path, timeout=0)
                undo.callback(self._writer.close)
                migrate(self._writer)
                if valid_names is not None:
                    for old, new in rename_rooms(self._writer, valid_names):
                        logger.warning("the room %r of %s is called %r now", old, path, new)
                (self._seed,) = self._writer.execute("SELECT seed FROM state").fetchone()
                self._reader = connect(path)
                undo.callback(self._reader.close)
                self._searcher = connect(path)
                undo.callback(self._searcher.close)
                undo.pop_all()
        except sqlite3.Error as exc:
            raise EngineUnusable(f"cannot use {path}: {exc}") from exc
        #: Messages, about, whose words no search would find yet.
        self._unindexed = _INDEX_EVERY
        #: Why the last transaction failed, of which the operator has been told.
        self._failure: str | None = None
        #: Each room's row, epoch and last offset, as far as they have been asked
        #: for. A room of which nothing was ever kept has no row. Filled under the
        #: lock; what is there may be read, and forgotten, without.
        self._rooms: dict[str, tuple[int | None, str, int]] = {}

    def check(self) -> None:
        if self._failure is not None:
            raise EngineFailed(self._failure)
        try:
            with self._read_lock:
                self._reader.execute("SELECT seed FROM state").fetchone()
        except sqlite3.Error as exc:
            raise EngineFailed(str(exc)) from exc

    def append(self, room: str, drafts: Sequence[Draft]) -> list[Entry]:
        now = time.time()
        with self._lock, self._transaction() as database:
            begin = time.perf_counter()
            row, epoch, before = self._room_locked(room)
            if row is None:
                (row,) = database.execute(
                    "INSERT INTO rooms (name, epoch, last) VALUES (?, ?, 0) RETURNING id",
                    (room, epoch),
                ).fetchone()
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
            took = time.perf_counter() - begin
            self._rooms[room] = row, epoch, last
            self._unindexed = unindexed
        if self._on_commit is not None:
            self._on_commit(took)
        self._deliver_new(room, entries, before)
        return entries

    def position(self, room: str) -> Position:
        known = self._rooms.get(room)
        if known is None:
            with self._lock:
                known = self._rooms[room] = self._room_locked(room)
        return Position(known[1], known[2])

    def read_after(self, room: str, position: Position, limit: int) -> Page:
        end = self.position(room)
        if position.epoch != end.epoch or position.offset > end.offset:
            return Page((), complete=False)
        where = "offset > ? AND offset <= ? ORDER BY offset"
        with self._read_lock:
            found, whole = self._select(
                self._reader, room, where, limit, position.offset, end.offset
            )
        return Page(tuple(found), whole and len(found) == end.offset - position.offset)

    def read_before(self, room: str, offset: int | None, limit: int) -> Page:
        end = self.position(room).offset + 1 if offset is None else offset
        with self._read_lock:
            found, whole = self._select(
                self._reader, room, "offset < ? ORDER BY offset DESC", limit, end
            )
        return Page(tuple(found[::-1]), whole)

    def search(self, room: str, words: str, limit: int) -> list[Entry]:
        # Each word as a string of FTS5's, so that nothing in it is an operator.
        query = " ".join('"{}"*'.format(word.replace('"', '""')) for word in {*words.split()})
        if not query:
            return []
        where = "id IN (SELECT rowid FROM texts WHERE texts MATCH ?) ORDER BY offset DESC"
        with self._throttle.take() as deadline:
            self._index()
            self._searcher.set_progress_handler(
                lambda: deadline.expired or self._closing.is_set(), _SEARCH_STEPS
            )
            return self._select(self._searcher, room, where, limit, query)[0]

    def keeps(self, room: str) -> bool:
        with self._read_lock:
            return bool(self._select(self._reader, room, "1", 1)[0])

    def forget(self, room: str) -> None:
        # Only what is in memory: the file goes on from where it is. Without the
        # lock, which is held over commits: nobody appends to an empty room.
        self._rooms.pop(room, None)

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

    def interrupt(self) -> None:
        self._closing.set()
        self._throttle.close()
        with contextlib.suppress(sqlite3.ProgrammingError):
            # Closed already, else.
            self._reader.interrupt()

    def close(self) -> None:
        self.interrupt()
        with self._lock, self._read_lock, self._throttle.over():
            for database in (self._searcher, self._reader, self._writer, self._claim):
                database.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All of the block or nothing. The block commits."""
        database = self._writer
        try:
            self._begin()
            yield database
        except sqlite3.Error as exc:
            if self._failure is None:
                logger.error("cannot write to %s: %s", self._path, exc)  # noqa: TRY400 - for people
            self._failure = str(exc)
            raise EngineFailed(str(exc)) from exc
        else:
            if self._failure is not None:
                self._failure = None
                logger.warning("writing to %s works again", self._path)
        finally:
            # A disk that is full may have rolled back already, and a stop may
            # have closed it.
            with contextlib.suppress(sqlite3.Error):
                if database.in_transaction:
                    database.execute("ROLLBACK")

    def _begin(self) -> None:
        """Begin to write, when no other program does."""
        deadline = Deadline.after(_BUSY_SECONDS)
        while True:
            try:
                self._writer.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as exc:
                busy = exc.sqlite_errorcode == sqlite3.SQLITE_BUSY
                if not busy or deadline.expired or self._closing.wait(_TRY_AGAIN):
                    raise
            else:
                return

    def _room_locked(self, room: str) -> tuple[int | None, str, int]:
        """The room's row, if it has one, its epoch, and its last offset."""
        known = self._rooms.get(room)
        if known is not None:
            return known
        try:
            found: tuple[int, str, int] | None = self._writer.execute(
                "SELECT id, epoch, last FROM rooms WHERE name = ?", (room,)
            ).fetchone()
        except sqlite3.Error as exc:
            raise EngineFailed(str(exc)) from exc
        # The same after a restart, for who was there before anything was said.
        epoch = hashlib.blake2b(f"{self._seed} {room}".encode(), digest_size=8).hexdigest()
        return found or (None, epoch, 0)

    def _index(self) -> None:
        """Have a search find everything."""
        with self._lock:
            if self._unindexed:
                with self._transaction() as database:
                    self._index_locked()
                    database.execute("COMMIT")
                    self._unindexed = 0

    def _index_locked(self) -> int:
        """Put the words of new messages where a search finds them; none is left."""
        self._writer.execute(
            "INSERT INTO texts (rowid, text)"
            " SELECT id, text FROM messages WHERE id > (SELECT indexed FROM state)"
        )
        self._writer.execute(
            "UPDATE state SET indexed = (SELECT coalesce(max(id), 0) FROM messages)"
        )
        return 0

    def _drop_locked(self, row: int, last: int, now: float) -> None:
        """Let go of what is too much or too old."""
        self._writer.execute("DELETE FROM nonces WHERE time < ?", (now - self._nonce_seconds,))
        if self._keep.messages is not None:
            self._writer.execute(
                "DELETE FROM messages WHERE room = ? AND offset <= ?",
                (row, last - self._keep.messages),
            )
        if self._keep.seconds is not None:
            # Of every room: of some of them nobody may speak again.
            self._writer.execute("DELETE FROM messages WHERE time < ?", (now - self._keep.seconds,))

    def _select(
        self, database: sqlite3.Connection, room: str, where: str, limit: int, *values: object
    ) -> tuple[list[Entry], bool]:
        """A page of what is selected, and whether that is all. The caller may use ``database``."""
        query = (
            f"SELECT {_COLUMNS} FROM messages WHERE"  # noqa: S608 - our own words only
            f" room = (SELECT id FROM rooms WHERE name = ?) AND time >= ? AND {where}"
        )
        try:
            with contextlib.closing(
                database.execute(query, (room, self._oldest(), *values))
            ) as rows:
                return fitting((Entry(*row) for row in rows), limit)
        except sqlite3.Error as exc:
            raise EngineFailed(str(exc)) from exc

    def _oldest(self) -> float:
        """The time before which nothing is kept."""
        return -1.0 if self._keep.seconds is None else time.time() - self._keep.seconds
