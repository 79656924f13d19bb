"""Transactions that write to the SQLite file: one for all that wait (group commit)."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import AppendUnknown, EngineFailed
from ..net import Deadline
from .leader_queue import LeaderQueue, Request
from .sqlite_file import VERSION

__all__ = ["SqliteWriter"]

logger = logging.getLogger("syncchat.engine")

#: Seconds that a transaction waits for another program's: at first, and after one has failed, so
#: that senders that wait one after the other are soon told. And seconds between two tries.
_BUSY_SECONDS, _STILL_BUSY_SECONDS = 2.0, 0.2
_TRY_AGAIN = 0.01
#: Seconds after a failure before ``check`` tries to write. A small write may succeed where the
#: message that has failed would not.
_CHECK_AFTER = 0.5

#: The longest pause between two transactions, as a share of the time that one takes.
_PAUSE = 0.25

#: Does a part of a transaction. Returns the number of new messages. It is called again if the
#: transaction has failed, perhaps because of another part.
Store = Callable[[sqlite3.Connection], int]


class _Write(Request):
    """A part of a transaction. The thread that needs it waits for the commit."""

    __slots__ = ("failure", "store")

    def __init__(self, store: Store) -> None:
        super().__init__()
        self.store = store
        self.failure: Exception | None = None

    def fail(self, cause: Exception) -> None:
        """Note that nothing of it is stored, because of ``cause``."""
        self.failure = cause
        if isinstance(cause, sqlite3.Error):
            # One for each thread that raises it.
            self.failure = EngineFailed(str(cause))
            self.failure.__cause__ = cause
        self.done = True


class SqliteWriter:
    """The writing connection to the file at ``path``. Any thread may call the methods.

    The file has been written to, so that its log of changes is there.
    ``finish`` is called at the end of each transaction with the connection and the number of
    new messages, ``on_commit`` after it with the seconds that it took, and ``forget`` after one
    that has failed, or may have.
    """

    def __init__(
        self,
        path: str,
        database: sqlite3.Connection,
        finish: Callable[[sqlite3.Connection, int], None],
        forget: Callable[[], None],
        on_commit: Callable[[float], None] | None,
    ) -> None:
        self._path = path
        #: The file and its log of changes, where a restart would find them. Absolute, as the
        #: program may change its folder; the log is beside what a link refers to.
        places = (Path(path).absolute(), Path(f"{Path(path).resolve()}-wal"))
        self._files = {place: _identity(place) for place in places if place.exists()}
        self._database = database
        self._finish = finish
        self._forget = forget
        self._on_commit = on_commit
        #: The parts of the next transaction.
        self._writes: LeaderQueue[_Write] = LeaderQueue(self._commit, pause=_PAUSE)
        #: Guards the connection, and ``failure``. No other lock is taken under it.
        self._lock = threading.Lock()
        #: Set when the connection is about to be closed: then nothing waits any more.
        self._closing = threading.Event()
        #: Why the last transaction failed, and when, on the monotonic clock; None: it did not.
        self.failure: str | None = None
        self._failed_at = 0.0

    def write(self, store: Store) -> None:
        """Call ``store`` in a transaction, and return after its commit.

        If nothing is stored, raises :class:`EngineFailed`, or the exception of ``store`` that is
        no ``sqlite3.Error``; :class:`AppendUnknown` if that is not known.
        """
        write = _Write(store)
        self._writes.run(write)
        if write.failure is not None:
            raise write.failure

    def check(self) -> None:
        """Raise :class:`EngineFailed` if nothing can be written. After a failure, it tries to."""
        failure = self.failure
        if failure is not None and time.monotonic() < self._failed_at + _CHECK_AFTER:
            raise EngineFailed(failure)
        if failure is not None or not self._is_in_place():
            self.write(_write_anything)

    def interrupt(self) -> None:
        """Wait for no other program any more."""
        self._closing.set()

    def close(self) -> None:
        """Close the connection after the present transaction. Later writes fail."""
        self._closing.set()
        with self._lock:
            self._database.close()

    def _commit(self, writes: Sequence[_Write]) -> None:
        """Carry out the writes that wait. On the leader's thread."""
        until = time.monotonic() + _BUSY_SECONDS
        took: list[float] = []
        try:
            with self._lock:
                took += self._transact_locked(writes)
                for write in writes:
                    # The transaction has failed, perhaps because of one of them.
                    if not write.done and time.monotonic() < until:
                        took += self._transact_locked([write])
        finally:
            for write in writes:
                if not write.done:
                    write.fail(AppendUnknown(self.failure or "the server is stopping"))
        if self._on_commit is not None:
            for seconds in took:
                self._on_commit(seconds)

    def _transact_locked(self, writes: Sequence[_Write]) -> list[float]:
        """Carry out writes in one transaction. Returns the seconds that it took, if it did.

        A write that fails harms no other one: it is undone to its savepoint. If the whole
        transaction fails, the writes are not ``done``, unless there is only one.
        """
        assert self._lock.locked()
        database = self._database
        alone = len(writes) == 1
        stored: list[_Write] = []
        count, committed = 0, False
        problem: sqlite3.Error | None = None
        try:
            if not self._begin_locked(writes):
                return []
            begin = time.perf_counter()
            for write in writes:
                try:
                    if not alone:
                        database.execute("SAVEPOINT part")
                    count += write.store(database)
                    if not alone:
                        database.execute("RELEASE part")
                    stored.append(write)
                except Exception as exc:  # noqa: BLE001 - raised on the thread that waits for it
                    write.fail(exc)
                    problem = exc if isinstance(exc, sqlite3.Error) else problem
                    # SQLite may have ended the transaction, for example on a full disk.
                    if alone or not database.in_transaction:
                        return []
                    database.execute("ROLLBACK TO part")
                    database.execute("RELEASE part")
            if not stored:
                return []
            self._finish(database, count)
            database.execute("COMMIT")
            committed = True
            for write in stored:
                write.done = True
            if problem is None:
                self._note_success_locked()
            return [time.perf_counter() - begin]
        except sqlite3.Error as exc:
            problem = exc
            if alone:
                writes[0].fail(exc)
            return []
        finally:
            if not committed:
                self._forget()
                # A stop may have closed the connection.
                with contextlib.suppress(sqlite3.Error):
                    if database.in_transaction:
                        database.execute("ROLLBACK")
            if problem is not None:
                self._note_failure_locked(problem)

    def _begin_locked(self, writes: Sequence[_Write]) -> bool:
        """Begin a transaction; wait while another program writes. False: all writes have failed."""
        assert self._lock.locked()
        if not self._is_in_place():
            # It could be written to, but nobody would find that.
            self._fail_locked(writes, sqlite3.OperationalError("the file was removed or replaced"))
            return False
        deadline: Deadline | None = None
        while True:
            try:
                self._database.execute("BEGIN IMMEDIATE")
            except sqlite3.Error as exc:
                if deadline is None:
                    seconds = _BUSY_SECONDS if self.failure is None else _STILL_BUSY_SECONDS
                    deadline = Deadline.after(seconds)
                busy = exc.sqlite_errorcode == sqlite3.SQLITE_BUSY
                if not busy or deadline.expired or self._closing.wait(_TRY_AGAIN):
                    self._fail_locked(writes, exc)
                    return False
            else:
                return True

    def _fail_locked(self, writes: Sequence[_Write], cause: sqlite3.Error) -> None:
        assert self._lock.locked()
        for write in writes:
            write.fail(cause)
        self._note_failure_locked(cause)

    def _is_in_place(self) -> bool:
        """Whether the files that are written to are still in their places."""
        try:
            return all(_identity(place) == known for place, known in self._files.items())
        except OSError:
            return False

    def _note_failure_locked(self, problem: sqlite3.Error) -> None:
        assert self._lock.locked()
        if self.failure is None and not self._closing.is_set():
            logger.error("cannot write to %s: %s", self._path, problem)
        self._failed_at = time.monotonic()
        self.failure = str(problem)

    def _note_success_locked(self) -> None:
        assert self._lock.locked()
        if self.failure is not None:
            self.failure = None
            logger.warning("can write to %s again", self._path)


def _identity(place: Path) -> tuple[int, int]:
    """What tells a file from others. To open and close it would end SQLite's locks on it."""
    state = place.stat()
    return state.st_dev, state.st_ino


def _write_anything(database: sqlite3.Connection) -> int:
    # SQLite does not write a row that stays as it is, but this number in any case.
    database.execute(f"PRAGMA user_version = {VERSION}")
    return 0
