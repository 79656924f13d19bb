"""Records in a SQLite file, which several processes may read and write at the same time."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence

from ..errors import EngineFailed, EngineUnusable
from .records import Record, Records
from .sqlite_file import connect, inspect, migrate

__all__ = ["TYPED", "SqliteRecords"]

#: Key and value, of the right types even in a damaged file.
TYPED = "CAST(key AS TEXT), CAST(value AS BLOB)"


class SqliteRecords(Records):
    """The records in the file at ``path``, which is created if it does not exist.

    The file may be that of a :class:`SqliteEngine`, also while a server uses it. Raises
    :class:`EngineUnusable`, whose text is a line for people, as that engine does. ``transact``:
    how the engine calls a function in its next transaction; None: there is no engine.
    """

    def __init__(
        self,
        path: str,
        transact: Callable[[Callable[[sqlite3.Connection], int]], None] | None = None,
    ) -> None:
        self._path = path
        self._transact = self._transact_here if transact is None else transact
        #: Guards the connection. No other lock is taken under it. With an engine, nobody writes
        #: on this connection: who reads waits for no commit.
        self._lock = threading.Lock()
        inspect(path, whole=False)
        try:
            with contextlib.ExitStack() as undo:
                self._database = undo.enter_context(contextlib.closing(connect(path)))
                migrate(self._database)
                undo.pop_all()
        except sqlite3.Error as exc:
            raise EngineUnusable(f"cannot use {path}: {exc}") from exc

    def read(self, kind: str) -> dict[str, bytes]:
        with self._connection() as database:
            rows = database.execute(
                f"SELECT {TYPED} FROM records WHERE kind = ?",  # noqa: S608 - our own words only
                (kind,),
            )
            return dict(rows.fetchall())

    def all(self) -> list[Record]:
        with self._connection() as database:
            rows = database.execute(
                f"SELECT kind, {TYPED} FROM records ORDER BY kind, key"  # noqa: S608 - our own words only
            )
            return [Record(*row) for row in rows]

    def get(self, kind: str, key: str) -> bytes | None:
        with self._connection() as database:
            found = database.execute(
                "SELECT value FROM records WHERE kind = ? AND key = ?", (kind, key)
            ).fetchone()
        value: bytes | None = found and found[0]
        return value

    def write(self, records: Sequence[Record], *, announce: bool = True) -> None:
        def store(database: sqlite3.Connection) -> int:
            for record in records:
                if record.value is None:
                    database.execute(
                        "DELETE FROM records WHERE kind = ? AND key = ?",
                        (record.kind, record.key),
                    )
                else:
                    database.execute(
                        "INSERT OR REPLACE INTO records (kind, key, value) VALUES (?, ?, ?)",
                        (record.kind, record.key, record.value),
                    )
            if announce:
                database.execute("UPDATE records_version SET version = version + 1")
            return 0

        self._transact(store)

    def _transact_here(self, store: Callable[[sqlite3.Connection], int]) -> None:
        with self._connection() as database:
            database.execute("BEGIN IMMEDIATE")
            try:
                store(database)
                database.execute("COMMIT")
            finally:
                if database.in_transaction:
                    database.execute("ROLLBACK")

    def version(self) -> int:
        with self._connection() as database:
            version: int
            (version,) = database.execute("SELECT max(version) FROM records_version").fetchone()
        return version or 0

    def close(self) -> None:
        with self._lock:
            self._database.close()

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """The connection, under the lock. Turns ``sqlite3.Error`` into :class:`EngineFailed`."""
        try:
            with self._lock:
                yield self._database
        except sqlite3.Error as exc:
            raise EngineFailed(f"cannot use {self._path}: {exc}") from exc
