"""Looks after a SQLite file from outside, also while a server uses it."""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from ..errors import EngineFailed, EngineUnusable
from .interface import Draft, Retention, fingerprint
from .maintenance import Maintenance, RoomFigures
from .records import Record
from .sqlite_file import NO_VALID_END, claim, connect, inspect, migrate
from .sqlite_records import TYPED

__all__ = ["SqliteMaintenance"]

#: Messages that one transaction deletes, and seconds after it: a server waits at most 2 seconds.
_BATCH = 1000
_PAUSE = 0.02

#: The messages of a room without those that have the message before them.
_HOLES = """
SELECT name, before + 1, offset - 1 FROM (
    SELECT room, offset, lag(offset) OVER (PARTITION BY room ORDER BY offset) AS before
    FROM messages
) JOIN rooms ON rooms.id = room WHERE offset > before + 1 ORDER BY name, offset
"""
_ENDS = """
SELECT name, last, max(offset) FROM rooms JOIN messages ON room = rooms.id
GROUP BY rooms.id HAVING max(offset) <> last ORDER BY name
"""
_STRANGERS = """
SELECT 'messages', count(*) FROM messages WHERE room NOT IN (SELECT id FROM rooms)
UNION ALL SELECT 'nonces', count(*) FROM nonces WHERE room NOT IN (SELECT id FROM rooms)
"""
#: Each nonce whose message is kept, or should be: none may be missing behind the first one.
_NONCES = """
SELECT rooms.name, nonces.nonce, nonces.offset, kind, text, messages.nonce
FROM nonces JOIN rooms ON rooms.id = nonces.room
LEFT JOIN messages ON messages.room = nonces.room AND messages.offset = nonces.offset
WHERE nonces.offset > last OR nonces.offset < 1 OR nonces.offset >= (
    SELECT min(offset) FROM messages WHERE messages.room = nonces.room
) ORDER BY rooms.name, nonces.offset
"""
#: What has another type than the server gave it, or is no text any more. The times are those that
#: an import takes.
_DAMAGED = f"""
SELECT name, NULL FROM rooms WHERE {NO_VALID_END}
    OR typeof(epoch) <> 'text' OR epoch = '' OR epoch GLOB '*[^0-9A-Za-z]*'
    OR typeof(name) <> 'text' OR name = '' OR NOT is_text(CAST(name AS BLOB))
UNION ALL SELECT name, offset FROM messages JOIN rooms ON rooms.id = room
WHERE typeof(offset) <> 'integer' OR typeof(time) <> 'real' OR time NOT BETWEEN 1 AND 1e11
    OR typeof(nick) <> 'text' OR NOT is_text(CAST(nick AS BLOB))
    OR typeof(text) <> 'text' OR NOT is_text(CAST(text AS BLOB))
    OR kind NOT IN ('message', 'action', 'redaction', 'redacted')
    OR typeof(nonce) NOT IN ('text', 'null')
ORDER BY 1, 2
"""  # noqa: S608 - our own words only
_LASTS = "SELECT id, last FROM rooms WHERE typeof(last) = 'integer'"
_FIGURES = """
SELECT name, epoch, last, count(offset), coalesce(sum(length(CAST(text AS BLOB))), 0),
    CAST(min(time) AS REAL), CAST(max(time) AS REAL)
FROM rooms LEFT JOIN messages ON room = rooms.id WHERE last > 0 GROUP BY rooms.id ORDER BY name
"""


class SqliteMaintenance(Maintenance):
    """Maintenance for the file at ``path``, which must exist."""

    def __init__(self, path: str) -> None:
        self._path = path
        if not Path(path).exists():
            raise EngineUnusable(f"cannot use {path}: it does not exist")
        inspect(path, whole=False)
        with self._opened() as database:
            (version,) = database.execute("PRAGMA user_version").fetchone()
        if not version:
            raise EngineUnusable(f"cannot use {path}: it is empty: no server has used it")

    def backup(self, target: Path) -> None:
        self._copy(target)
        # It may take the place of an older one, which is whole.
        with self._told(), contextlib.closing(connect(str(target), "ro")) as copy:
            (verdict,) = copy.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise EngineFailed(f"{self._path} is damaged, and not copied: 'check' tells more")

    def _copy(self, target: Path) -> None:
        with (
            self._opened() as database,
            contextlib.closing(sqlite3.connect(target, isolation_level=None)) as copy,
        ):
            # All pages in one step, so that no commit of a server makes it begin again.
            database.backup(copy)
            # In WAL mode, it could not be read where it is read-only.
            copy.execute("PRAGMA journal_mode = DELETE")

    def faults(
        self, of_records: Callable[[Sequence[Record]], Iterable[str]] = lambda _: ()
    ) -> Iterator[str]:
        # In a copy, in which messages can be indexed, and which no server changes.
        with tempfile.TemporaryDirectory(prefix="syncchat-") as folder:
            copy = Path(folder) / "copy"
            self._copy(copy)
            with self._told(), contextlib.closing(connect(str(copy))) as database:
                damage = [text for (text,) in database.execute("PRAGMA integrity_check")]
                if damage != ["ok"]:
                    yield from (line for text in damage for line in text.splitlines())
                    return
                migrate(database)
                yield from _faults_of_index(database)
                yield from _faults_of_log(database)
                records = database.execute(f"SELECT kind, {TYPED} FROM records")  # noqa: S608 - our own words only
                yield from of_records([Record(*row) for row in records])

    def prune(self, keep: Retention) -> tuple[int, bool]:
        with self._told(), contextlib.ExitStack() as stack:
            try:
                stack.enter_context(contextlib.closing(claim(self._path)))
                is_ours = True
            except EngineUnusable:
                is_ours = False
            database = stack.enter_context(contextlib.closing(connect(self._path, "rw")))
            migrate(database)
            total = sum(_delete(database, *each) for each in _excess(database, keep))
            if is_ours:
                database.execute("VACUUM")
        return total, is_ours

    def rooms(self) -> list[RoomFigures]:
        with self._opened() as database:
            return [RoomFigures(*row) for row in database.execute(_FIGURES)]

    def sizes(self) -> dict[str, int]:
        files = {"file": Path(self._path), "wal": Path(f"{self._path}-wal")}
        return {name: file.stat().st_size if file.exists() else 0 for name, file in files.items()}

    @contextlib.contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        with self._told(), contextlib.closing(connect(self._path, "ro")) as database:
            yield database

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as exc:
            raise EngineFailed(f"cannot use {self._path}: {exc}") from exc


def _faults_of_index(database: sqlite3.Connection) -> Iterator[str]:
    # The newest messages are not in it yet.
    database.execute(
        "INSERT INTO texts (rowid, text)"
        " SELECT id, text FROM messages WHERE id > (SELECT indexed FROM state)"
    )
    try:
        # 1: compare with the messages, too (SQLite's documentation of FTS5, 6.4).
        database.execute("INSERT INTO texts (texts, rank) VALUES ('integrity-check', 1)")
    except sqlite3.DatabaseError as exc:
        if exc.sqlite_errorcode & 0xFF != sqlite3.SQLITE_CORRUPT:
            raise
        yield "the search index does not match the messages"


def _faults_of_log(database: sqlite3.Connection) -> Iterator[str]:
    database.create_function("is_text", 1, _is_text, deterministic=True)
    for room, offset in database.execute(_DAMAGED):
        at = f"the message with offset {offset}" if offset is not None else "its entry"
        yield f"room {room}: {at} is damaged"
    for table, count in database.execute(_STRANGERS):
        if count:
            yield f"{count} {table} belong to no room"
    for room, first, last in database.execute(_HOLES):
        yield f"room {room}: messages are missing: offsets {first} to {last}"
    for room, last, newest in database.execute(_ENDS):
        yield f"room {room}: the newest message has offset {newest}, but the log ends at {last}"
    for room, key, offset, kind, text, nonce in database.execute(_NONCES):
        if kind is None:
            yield f"room {room}: a nonce points at offset {offset}, where there is no message"
        elif key != fingerprint(Draft("", text, kind, nonce)):
            yield f"room {room}: a nonce points at offset {offset}, which is another message"


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _excess(
    database: sqlite3.Connection, keep: Retention
) -> Iterator[tuple[str, tuple[int | float, ...]]]:
    """What to delete, as conditions with their values."""
    if keep.messages is not None:
        for row, last in database.execute(_LASTS).fetchall():
            yield "room = ? AND offset <= ?", (row, last - keep.messages)
    if keep.seconds is not None:
        yield "time < ?", (time.time() - keep.seconds,)


def _delete(database: sqlite3.Connection, where: str, values: tuple[int | float, ...]) -> int:
    """Delete messages a few at a time, so that a server's transactions come between."""
    total = 0
    while True:
        deleted = database.execute(
            "DELETE FROM messages WHERE id IN"  # noqa: S608 - our own words only
            f" (SELECT id FROM messages WHERE {where} ORDER BY id LIMIT {_BATCH})",
            values,
        ).rowcount
        total += deleted
        if deleted < _BATCH:
            return total
        time.sleep(_PAUSE)
