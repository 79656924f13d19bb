"""The engine that stores messages durably in an SQLite file, for one server.

The batches of all rooms that wait are one transaction (group commit). It is in the write-ahead
log and flushed to the disk (``synchronous=FULL``) before ``append`` returns. Reads have
connections of their own, and wait for no transaction.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, takewhile

from ..errors import EngineFailed, EngineUnusable
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
from .reading import SearchThrottle, first_page, matching, patterns, tail_of, tail_start
from .sqlite_file import NONCE_SECONDS, claim, connect, inspect, migrate, rename_rooms
from .sqlite_records import SqliteRecords
from .sqlite_writer import SqliteWriter

__all__ = ["SqliteEngine"]

logger = logging.getLogger("syncchat.engine")

#: Seconds for which a nonce is known if the retention is limited.
_NONCE_SECONDS_FEW = 86400.0

#: New messages after which ``append`` puts their words into the search index.
_INDEX_EVERY = 500

#: Steps of SQLite's virtual machine between two checks of a search's deadline.
_SEARCH_STEPS = 10_000

#: Texts are texts even in a damaged file.
_COLUMNS = "offset, time, CAST(nick AS TEXT), CAST(text AS TEXT), kind, nonce"


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
        self.promise = f"sqlite:{path}: a message is on the disk before anybody gets it"
        self._retention = retention
        self._nonce_seconds = NONCE_SECONDS if retention == Retention() else _NONCE_SECONDS_FEW
        #: A cache of the writing transactions: each room's row, epoch and last offset.
        self._stored: dict[str, tuple[int, str, int]] = {}
        inspect(path)
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
                # SQLite must not wait for other programs: the writer does, interruptibly.
                database = connect(path, timeout=0)
                undo.callback(database.close)
                migrate(database)
                if valid_names is not None:
                    for old, new in rename_rooms(database, valid_names):
                        logger.warning("renamed the room %r of %s to %r", old, path, new)
                (self._seed,) = database.execute("SELECT seed FROM state").fetchone()
                self._writer = SqliteWriter(
                    path, database, self._finish, self._stored.clear, on_commit
                )
                self._reader = connect(path)
                undo.callback(self._reader.close)
                self._searcher = connect(path)
                undo.callback(self._searcher.close)
                self.records = SqliteRecords(path, self._writer.write)
                undo.callback(self.records.close)
                undo.pop_all()
        except sqlite3.Error as exc:
            raise EngineUnusable(f"cannot use {path}: {exc}") from exc
        #: About how many messages the search index lacks. Only the writer's leader changes it.
        self._unindexed = _INDEX_EVERY
        #: A cache: the end of each followed room's log. Only the thread that may append to a
        #: room changes its item, after the commit; any thread may read it.
        self._ends: dict[str, Position] = {}

    def check(self) -> None:
        self._writer.check()
        try:
            with self._read_lock:
                self._reader.execute("SELECT seed FROM state").fetchone()
        except sqlite3.Error as exc:
            raise EngineFailed(str(exc)) from exc

    def follow(self, room: str) -> Position:
        end = self._ends.get(room)
        if end is None:
            end = self._ends.setdefault(room, self._end(room))
        return end

    def unfollow(self, room: str) -> None:
        # Only the cache: the file keeps the log's end.
        self._ends.pop(room, None)
        self._stored.pop(room, None)

    def append(self, room: str, drafts: Sequence[Draft]) -> list[Appended]:
        answers: list[Appended] = []
        new: list[Message] = []

        def store(database: sqlite3.Connection) -> int:
            answers.clear()
            new.clear()
            self._store(database, room, drafts, answers, new)
            return len(new)

        self._writer.write(store)
        if new:
            end = self._ends[room] = Position(answers[0].epoch, new[-1].offset)
            self._deliver(room, Delivery(end, new))
        return answers

    def _store(
        self,
        database: sqlite3.Connection,
        room: str,
        drafts: Sequence[Draft],
        answers: list[Appended],
        new: list[Message],
    ) -> None:
        """Number and store drafts, in a transaction."""
        now = time.time()
        row, epoch, last = self._stored.get(room) or self._find_room(database, room)
        if row is None:
            (row,) = database.execute(
                "INSERT INTO rooms (name, epoch, last) VALUES (?, ?, 0) RETURNING id",
                (room, epoch),
            ).fetchone()
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
        if self._retention.messages is not None:
            database.execute(
                "DELETE FROM messages WHERE room = ? AND offset <= ?",
                (row, last - self._retention.messages),
            )
        assert row is not None
        self._stored[room] = row, epoch, last

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
        select = (
            f"SELECT id, {_COLUMNS} FROM messages"  # noqa: S608 - our own words only
            " WHERE room = (SELECT id FROM rooms WHERE name = ?) AND time >= ?"
        )
        order = " ORDER BY offset DESC"
        indexed = " AND id IN (SELECT rowid FROM texts WHERE texts MATCH ?)"
        database = self._searcher
        with self._throttle.take() as deadline:
            database.set_progress_handler(
                lambda: deadline.expired or self._closing.is_set(), _SEARCH_STEPS
            )
            try:
                # A read transaction: all of it sees the same messages.
                database.execute("BEGIN")
                try:
                    (last,) = database.execute("SELECT indexed FROM state").fetchone()
                    rows = database.execute(select + order, (room, self._oldest()))
                    latest = (
                        Message(*row[1:]) for row in takewhile(lambda row: row[0] > last, rows)
                    )
                    found = database.execute(
                        select + indexed + order, (room, self._oldest(), query)
                    )
                    earlier = (Message(*row[1:]) for row in found)
                    # The index lacks the latest messages. To add them would wait for a commit.
                    matches = matching(latest, patterns(words), deadline)
                    return first_page(chain(matches, earlier), limit)[0]
                finally:
                    database.execute("ROLLBACK")
            except sqlite3.Error as exc:
                raise EngineFailed(str(exc)) from exc

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
        self._writer.interrupt()
        self._throttle.close()
        with self._interrupt_lock, contextlib.suppress(sqlite3.ProgrammingError):
            # Raised if the connection is closed already.
            self._reader.interrupt()

    def close(self) -> None:
        self.interrupt()
        self._throttle.join()
        self.records.close()
        with self._read_lock, self._interrupt_lock:
            self._searcher.close()
            self._reader.close()
        # Last, since it writes the log of changes back into the file.
        self._writer.close()
        self._claim.close()

    def _end(self, room: str) -> Position:
        end = self._ends.get(room)
        if end is None:
            try:
                with self._read_lock:
                    _, epoch, last = self._find_room(self._reader, room)
            except sqlite3.Error as exc:
                raise EngineFailed(str(exc)) from exc
            end = Position(epoch, last)
        return end

    def _find_room(self, database: sqlite3.Connection, room: str) -> tuple[int | None, str, int]:
        """The room's row, None if it has none, its epoch, and its last offset.

        The caller must hold the lock of ``database``.
        """
        found: tuple[int, str, int] | None = database.execute(
            "SELECT id, epoch, last FROM rooms WHERE name = ?", (room,)
        ).fetchone()
        if found is not None:
            return found
        # Derived from the file's seed, so that a room without a row has the same epoch after
        # a restart. A client that was there before the first message can reconnect.
        epoch = hashlib.blake2b(f"{self._seed} {room}".encode(), digest_size=8).hexdigest()
        return None, epoch, 0

    def _finish(self, database: sqlite3.Connection, count: int) -> None:
        """End a transaction with ``count`` new messages: drop what is too old, index the rest."""
        now = time.time()
        database.execute("DELETE FROM nonces WHERE time < ?", (now - self._nonce_seconds,))
        if self._retention.seconds is not None:
            # In every room: a room may never get another append.
            database.execute(
                "DELETE FROM messages WHERE time < ?", (now - self._retention.seconds,)
            )
        self._unindexed += count
        if self._unindexed >= _INDEX_EVERY:
            database.execute(
                "INSERT INTO texts (rowid, text)"
                " SELECT id, text FROM messages WHERE id > (SELECT indexed FROM state)"
            )
            database.execute(
                "UPDATE state SET indexed = (SELECT coalesce(max(id), 0) FROM messages)"
            )
            self._unindexed = 0

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
