"""The engine that stores messages durably in an SQLite file, for one server.

A batch is one transaction (group commit). It is in the write-ahead log and flushed
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

from ..errors import EngineFailed, EngineUnusable
from ..net import Deadline
from .interface import (
    Appended,
    Delivery,
    Draft,
    Message,
    Page,
    Position,
    Retention,
    Tail,
    fingerprint,
)
from .local import LocalEngine
from .reading import SearchThrottle, first_page, tail_of, tail_start
from .sqlite_file import NONCE_SECONDS, claim, connect, inspect, migrate, rename_rooms
from .sqlite_records import SqliteRecords

__all__ = ["SqliteEngine"]

logger = logging.getLogger("syncchat.engine")

#: Seconds that a transaction waits for another program's, and seconds between two tries.
_BUSY_SECONDS = 2.0
_TRY_AGAIN = 0.01

#: Seconds for which a nonce is known if the retention is limited.
_NONCE_SECONDS_FEW = 86400.0

#: New messages after which ``append`` puts their words into the search index.
_INDEX_EVERY = 500

#: Steps of SQLite's virtual machine between two checks of a search's deadline.
_SEARCH_STEPS = 10_000

_COLUMNS = "offset, time, nick, text, kind, nonce"


class SqliteEngine(LocalEngine):
    """Logs in the file at ``path``, which is created if it does not exist.

    Raises :class:`EngineUnusable`, whose text is a line for people, for a file
    that is damaged, belongs to another program, is in use by another server, or was made by a
    later version of syncchat. Such a file is not changed.
    """

    def __init__(
        self,
        path: str,
        retention: Retention,
        on_commit: Callable[[float], None] | None = None,
        valid_names: Callable[[str], Iterator[str]] | None = None,
    ) -> None:
        super().__init__()
        self._on_commit = on_commit
        self._path = path
        self.promise = f"sqlite:{path}: a message is on the disk before anybody gets it"
        self._retention = retention
        self._nonce_seconds = NONCE_SECONDS if retention == Retention() else _NONCE_SECONDS_FEW
        inspect(path)
        #: Guards the writing connection, and the fields below. ``_read_lock`` and
        #: ``_interrupt_lock`` are taken under it, but only in ``close``.
        self._lock = threading.Lock()
        #: Guards the reading connection, a separate one, so that readers of history do not
        #: wait for a commit.
        self._read_lock = threading.Lock()
        #: Held while a read is interrupted, and while the connections are closed: without the
        #: GIL, the standard library would interrupt a connection whose memory is free.
        self._interrupt_lock = threading.Lock()
        #: Guards the searching connection, a separate one, since a search may take long.
        self._throttle = SearchThrottle()
        #: Set when the engine is about to be closed: then nothing waits any more.
        self._closing = threading.Event()
        try:
            with contextlib.ExitStack() as undo:
                self._claim = claim(path)
                undo.callback(self._claim.close)
                # SQLite must not wait for other programs: _begin does, interruptibly.
                self._writer = connect(path, timeout=0)
                undo.callback(self._writer.close)
                migrate(self._writer)
                if valid_names is not None:
                    for old, new in rename_rooms(self._writer, valid_names):
                        logger.warning("renamed the room %r of %s to %r", old, path, new)
                (self._seed,) = self._writer.execute("SELECT seed FROM state").fetchone()
                self._reader = connect(path)
                undo.callback(self._reader.close)
                self._searcher = connect(path)
                undo.callback(self._searcher.close)
                self.records = SqliteRecords(path)
                undo.callback(self.records.close)
                undo.pop_all()
        except sqlite3.Error as exc:
            raise EngineUnusable(f"cannot use {path}: {exc}") from exc
        #: About how many messages the search index lacks.
        self._unindexed = _INDEX_EVERY
        #: Why the last transaction failed, as logged for the operator; None: it did not.
        self._failure: str | None = None
        #: A cache: each room's row, epoch and last offset. The row is None for a room of
        #: which nothing was ever stored. Only the thread that may append to a room changes
        #: its item; any thread may read it.
        self._rooms: dict[str, tuple[int | None, str, int]] = {}

    def check(self) -> None:
        failure = self._failure  # read once: another thread may set it to None
        if failure is not None:
            raise EngineFailed(failure)
        try:
            with self._read_lock:
                self._reader.execute("SELECT seed FROM state").fetchone()
        except sqlite3.Error as exc:
            raise EngineFailed(str(exc)) from exc

    def follow(self, room: str) -> Position:
        known = self._rooms.get(room)
        if known is None:
            with self._read_lock:
                found = self._find_room(self._reader, room)
            known = self._rooms.setdefault(room, found)
        return Position(known[1], known[2])

    def unfollow(self, room: str) -> None:
        # Only the cache: the file keeps the log's end.
        self._rooms.pop(room, None)

    def append(self, room: str, drafts: Sequence[Draft]) -> list[Appended]:
        now = time.time()
        with self._lock, self._transaction_locked() as database:
            begin = time.perf_counter()
            row, epoch, before = self._rooms.get(room) or self._find_room(database, room)
            if row is None:
                (row,) = database.execute(
                    "INSERT INTO rooms (name, epoch, last) VALUES (?, ?, 0) RETURNING id",
                    (room, epoch),
                ).fetchone()
            last = before
            answers: list[Appended] = []
            new: list[Message] = []
            for draft in drafts:
                offset = last + 1
                key = None if draft.nonce is None else fingerprint(draft)
                if key is not None:
                    known = database.execute(
                        "INSERT INTO nonces (room, nonce, offset, time) VALUES (?, ?, ?, ?)"
                        " ON CONFLICT (room, nonce) DO UPDATE SET offset = offset"
                        " RETURNING offset",
                        (row, key, offset, now),
                    ).fetchone()
                    offset = known[0]
                answers.append(Appended(epoch, offset, new=offset > last))
                if offset <= last:
                    continue
                last = offset
                new.append(Message(last, now, draft.nick, draft.text, draft.kind, draft.nonce))
                database.execute(
                    "INSERT INTO messages (room, offset, time, nick, text, kind, nonce)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (row, last, now, draft.nick, draft.text, draft.kind, draft.nonce),
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
        if new:
            self._deliver(room, Delivery(Position(epoch, last), new))
        return answers

    def known(self, room: str, drafts: Sequence[Draft]) -> Sequence[Appended | None]:
        query = (
            "SELECT rooms.epoch, offset FROM nonces JOIN rooms ON rooms.id = room"
            " WHERE nonce = ? AND name = ?"
        )
        try:
            with self._read_lock:
                found = [
                    self._reader.execute(query, (fingerprint(draft), room)).fetchone()
                    for draft in drafts
                ]
        except sqlite3.Error:
            # The failure of append() is told.
            return [None] * len(drafts)
        return [row and Appended(row[0], row[1], new=False) for row in found]

    def read_after(self, room: str, position: Position, limit: int) -> Tail:
        end = self._end(room)
        start, known = tail_start(position, end, limit)
        where = "offset > ? AND offset <= ? ORDER BY offset"
        with self._read_lock:
            found, _ = self._select(self._reader, room, where, limit, start, end.offset)
        return tail_of(found, start, end, known=known)

    def read_before(self, room: str, offset: int | None, limit: int) -> Page:
        end = self._end(room).offset + 1 if offset is None else offset
        with self._read_lock:
            found, whole = self._select(
                self._reader, room, "offset < ? ORDER BY offset DESC", limit, end
            )
        return Page(tuple(found[::-1]), whole)

    def search(self, room: str, words: str, limit: int) -> list[Message]:
        # Quote each word as an FTS5 string, so that nothing in it is an operator.
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
        with self._interrupt_lock, contextlib.suppress(sqlite3.ProgrammingError):
            # Raised if the connection is closed already.
            self._reader.interrupt()

    def close(self) -> None:
        self.interrupt()
        # Before the locks: a search takes _lock.
        self._throttle.join()
        self.records.close()
        with self._lock, self._read_lock, self._interrupt_lock:
            for database in (self._searcher, self._reader, self._writer, self._claim):
                database.close()

    def _end(self, room: str) -> Position:
        known = self._rooms.get(room)
        if known is None:
            with self._read_lock:
                known = self._find_room(self._reader, room)
        return Position(known[1], known[2])

    @contextlib.contextmanager
    def _transaction_locked(self) -> Iterator[sqlite3.Connection]:
        """Begin a transaction, which the ``with`` block must commit.

        Rolls back on an exception. Turns ``sqlite3.Error`` into :class:`EngineFailed`, and logs
        the first failure and the recovery.
        """
        assert self._lock.locked()
        database = self._writer
        try:
            self._begin_locked()
            yield database
        except sqlite3.Error as exc:
            if self._failure is None and not self._closing.is_set():
                logger.error("cannot write to %s: %s", self._path, exc)  # noqa: TRY400 - for people
            self._failure = str(exc)
            raise EngineFailed(str(exc)) from exc
        else:
            if self._failure is not None:
                self._failure = None
                logger.warning("can write to %s again", self._path)
        finally:
            # SQLite may have rolled back already, for example on a full disk, and a stop
            # may have closed the connection.
            with contextlib.suppress(sqlite3.Error):
                if database.in_transaction:
                    database.execute("ROLLBACK")

    def _begin_locked(self) -> None:
        """Begin a write transaction; wait while another program writes."""
        assert self._lock.locked()
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

    def _find_room(self, database: sqlite3.Connection, room: str) -> tuple[int | None, str, int]:
        """The room's row, None if it has none, its epoch, and its last offset.

        The caller must hold the lock of ``database``.
        """
        try:
            found: tuple[int, str, int] | None = database.execute(
                "SELECT id, epoch, last FROM rooms WHERE name = ?", (room,)
            ).fetchone()
        except sqlite3.Error as exc:
            raise EngineFailed(str(exc)) from exc
        # Derived from the file's seed, so that a room without a row has the same epoch after
        # a restart. A client that was there before the first message can reconnect.
        epoch = hashlib.blake2b(f"{self._seed} {room}".encode(), digest_size=8).hexdigest()
        return found or (None, epoch, 0)

    def _index(self) -> None:
        """Put all messages into the search index."""
        with self._lock:
            if self._unindexed:
                with self._transaction_locked() as database:
                    self._index_locked()
                    database.execute("COMMIT")
                    self._unindexed = 0

    def _index_locked(self) -> int:
        """Put new messages into the search index. Returns how many are missing then: 0."""
        assert self._lock.locked()
        self._writer.execute(
            "INSERT INTO texts (rowid, text)"
            " SELECT id, text FROM messages WHERE id > (SELECT indexed FROM state)"
        )
        self._writer.execute(
            "UPDATE state SET indexed = (SELECT coalesce(max(id), 0) FROM messages)"
        )
        return 0

    def _drop_locked(self, row: int, last: int, now: float) -> None:
        """Delete messages and nonces that exceed the retention."""
        assert self._lock.locked()
        self._writer.execute("DELETE FROM nonces WHERE time < ?", (now - self._nonce_seconds,))
        if self._retention.messages is not None:
            self._writer.execute(
                "DELETE FROM messages WHERE room = ? AND offset <= ?",
                (row, last - self._retention.messages),
            )
        if self._retention.seconds is not None:
            # In every room: a room may never get another append.
            self._writer.execute(
                "DELETE FROM messages WHERE time < ?", (now - self._retention.seconds,)
            )

    def _select(
        self, database: sqlite3.Connection, room: str, where: str, limit: int, *values: object
    ) -> tuple[list[Message], bool]:
        """A page of the selected messages, and whether that is all.

        The caller must hold the lock of ``database``.
        """
        query = (
            f"SELECT {_COLUMNS} FROM messages WHERE"  # noqa: S608 - our own words only
            f" room = (SELECT id FROM rooms WHERE name = ?) AND time >= ? AND {where}"
        )
        try:
            with contextlib.closing(
                database.execute(query, (room, self._oldest(), *values))
            ) as rows:
                return first_page((Message(*row) for row in rows), limit)
        except sqlite3.Error as exc:
            raise EngineFailed(str(exc)) from exc

    def _oldest(self) -> float:
        """The time before which no message is kept, in seconds since 1970."""
        return -1.0 if self._retention.seconds is None else time.time() - self._retention.seconds
