"""The SQLite engine's file: its schema; inspects it before any change, claims it, migrates it."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from urllib.parse import quote

from ..errors import EngineUnusable

__all__ = [
    "APPLICATION_ID",
    "NONCE_SECONDS",
    "NO_VALID_END",
    "VERSION",
    "claim",
    "connect",
    "inspect",
    "migrate",
    "rename_rooms",
]

logger = logging.getLogger("syncchat.engine")

#: Seconds for which a nonce is known. A laptop may be closed over a weekend, and send its
#: unacknowledged messages again when it is opened.
NONCE_SECONDS = 7 * 86400.0

#: Seconds that a connection waits for a transaction of another one.
_BUSY_SECONDS = 5.0
#: Seconds that ``claim`` waits for another server to end.
_CLAIM_SECONDS = 2.0

# The schema.

#: ``PRAGMA application_id`` of the engine's files: "sync" in ASCII.
APPLICATION_ID = 0x73796E63

_ROOMS = """
CREATE TABLE rooms (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    epoch TEXT NOT NULL,
    last INTEGER NOT NULL
)
"""
_MESSAGES = """
CREATE TABLE messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    room INTEGER NOT NULL REFERENCES rooms (id),
    offset INTEGER NOT NULL,
    time REAL NOT NULL,
    nick TEXT NOT NULL,
    text TEXT NOT NULL,
    kind TEXT NOT NULL,
    nonce TEXT,
    UNIQUE (room, offset)
)
"""
#: A separate table, since a nonce may be kept for longer than its message.
_NONCES = """
CREATE TABLE nonces (
    room INTEGER NOT NULL REFERENCES rooms (id),
    nonce TEXT NOT NULL,
    offset INTEGER NOT NULL,
    time REAL NOT NULL,
    PRIMARY KEY (room, nonce)
) WITHOUT ROWID
"""
_NONCE_TIMES = "CREATE INDEX nonce_times ON nonces (time)"
_TIMES = "CREATE INDEX times ON messages (time)"
_TEXTS = """
CREATE VIRTUAL TABLE texts USING fts5 (
    text,
    content = 'messages',
    content_rowid = 'id',
    tokenize = 'unicode61 remove_diacritics 0'
)
"""
#: One row. ``seed`` is random; the epochs of rooms derive from it. ``indexed`` is the id of
#: the last message that is in ``texts``. Messages are indexed many at a time, since each
#: transaction that changes the index writes twenty pages.
_STATE = "CREATE TABLE state (seed TEXT NOT NULL, indexed INTEGER NOT NULL)"
_STATE_ROW = "INSERT INTO state VALUES (hex(randomblob(16)), 0)"
_TEXT_DROPPED = """
CREATE TRIGGER text_dropped AFTER DELETE ON messages
WHEN old.id <= (SELECT indexed FROM state) BEGIN
    INSERT INTO texts (texts, rowid, text) VALUES ('delete', old.id, old.text);
END
"""

#: Records such as people and bans, and the number of announced changes.
_RECORDS = """
CREATE TABLE records (
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (kind, key)
) WITHOUT ROWID
"""
_RECORDS_VERSION = "CREATE TABLE records_version (version INTEGER NOT NULL)"
_RECORDS_VERSION_ROW = "INSERT INTO records_version VALUES (0)"

#: The statements of each step, beginning with an empty file. Never change a released step:
#: add another one.
_MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        _ROOMS,
        _MESSAGES,
        _NONCES,
        _NONCE_TIMES,
        _TIMES,
        _TEXTS,
        _STATE,
        _STATE_ROW,
        _TEXT_DROPPED,
    ),
    (_RECORDS, _RECORDS_VERSION, _RECORDS_VERSION_ROW),
)

#: The tables that every version has, and those of version 2 and later.
_TABLES = frozenset({"rooms", "messages", "nonces", "texts", "state"})
_RECORD_TABLES = frozenset({"records", "records_version"})

#: The condition of a room that has no valid end.
NO_VALID_END = "typeof(last) <> 'integer' OR last NOT BETWEEN 0 AND 1 << 53"

#: What no server can work with.
_UNUSABLE = f"""
SELECT 'the room ' || name || ' has no valid end' FROM rooms
WHERE {NO_VALID_END}
UNION ALL SELECT 'its state is missing' WHERE (SELECT count(*) FROM state) <> 1
"""  # noqa: S608 - our own words only

#: The present version of the schema, as in ``PRAGMA user_version``.
VERSION = len(_MIGRATIONS)


def connect(path: str, mode: str = "rwc", timeout: float = _BUSY_SECONDS) -> sqlite3.Connection:
    """Open a connection that any thread may use, one at a time, under the caller's lock.

    Python begins no transactions on it (autocommit). ``timeout``: seconds to wait for a
    transaction of another connection.
    """
    database = sqlite3.connect(
        f"file:{quote(path)}?mode={mode}",
        uri=True,
        timeout=timeout,
        isolation_level=None,
        check_same_thread=False,
    )
    # A damaged text is shown with U+FFFD: it must not hide those around it.
    database.text_factory = partial(str, encoding="utf-8", errors="replace")
    if mode != "ro":
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        # Write 16 MB at a time back into the file, since a commit that does so takes two flushes
        # more.
        database.execute("PRAGMA wal_autocheckpoint = 4000")
    return database


def claim(path: str) -> sqlite3.Connection:
    """Keep other servers from using ``path`` until the returned connection is closed.

    Another server would invalidate this server's cache. The lock is on a second file, since a
    lock on ``path`` itself would also keep out this server's own readers. It ends with the
    process. Raises :class:`EngineUnusable` if another server holds it.
    """
    database = sqlite3.connect(
        f"{path}-lock", timeout=_CLAIM_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        database.execute("BEGIN EXCLUSIVE")
    except sqlite3.Error as exc:
        database.close()
        if exc.sqlite_errorcode == sqlite3.SQLITE_BUSY:
            raise EngineUnusable(f"cannot use {path}: another server uses it") from exc
        raise
    return database


def inspect(path: str, *, whole: bool = True) -> None:
    """Raise :class:`EngineUnusable` unless the file is ours and whole, or absent. Changes nothing.

    It is also raised for a file of a later version, or if the folder does not exist. ``whole``:
    whether to read all of it, which takes long for a large file.
    """
    place = Path(path)
    try:
        is_folder, has_folder, is_there = place.is_dir(), place.parent.is_dir(), place.exists()
    except OSError as exc:
        # The folder is not for this user, or the name is too long.
        raise EngineUnusable(f"cannot use {path}: {(exc.strerror or str(exc)).lower()}") from exc
    # SQLite's messages for these cases are misleading.
    if is_folder:
        raise EngineUnusable(f"cannot use {path}: it is a directory")
    if not has_folder:
        raise EngineUnusable(f"cannot use {path}: the directory {place.parent} does not exist")
    if not is_there:
        return
    # Not by opening it: closing it would end the locks of this process (POSIX).
    if not os.access(path, os.R_OK):
        raise EngineUnusable(f"cannot use {path}: permission denied")
    try:
        with contextlib.closing(connect(path, "ro")) as database:
            (application,) = database.execute("PRAGMA application_id").fetchone()
            (version,) = database.execute("PRAGMA user_version").fetchone()
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
            if application != APPLICATION_ID and tables:
                raise EngineUnusable(f"cannot use {path}: it belongs to another program")
            if version > VERSION:
                raise EngineUnusable(
                    f"cannot use {path}: it was created by a later version of syncchat"
                )
            if version and not tables >= (_TABLES if version == 1 else _TABLES | _RECORD_TABLES):
                raise EngineUnusable(f"cannot use {path}: it is damaged: a table is missing")
            verdict = "ok"
            if whole:
                (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
            if whole and version and verdict == "ok":
                verdict = next((text for (text,) in database.execute(_UNUSABLE)), verdict)
    except sqlite3.Error as exc:
        why = str(exc)
        if exc.sqlite_errorcode & 0xFF == sqlite3.SQLITE_READONLY:
            why = "its folder is read-only, and SQLite writes beside it: copy it to another folder"
        raise EngineUnusable(f"cannot use {path}: {why}") from exc
    if verdict != "ok":
        raise EngineUnusable(f"cannot use {path}: it is damaged: {' '.join(verdict.split())}")


def migrate(database: sqlite3.Connection) -> None:
    """Upgrade the schema to the present version in one transaction."""
    database.execute("BEGIN IMMEDIATE")
    try:
        (version,) = database.execute("PRAGMA user_version").fetchone()
        for step in _MIGRATIONS[version:]:
            for statement in step:
                database.execute(statement)
        database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        database.execute(f"PRAGMA user_version = {VERSION}")
        database.execute("COMMIT")
    finally:
        if database.in_transaction:
            database.execute("ROLLBACK")


def rename_rooms(
    database: sqlite3.Connection, valid_names: Callable[[str], Iterator[str]]
) -> list[tuple[str, str]]:
    """Give each room a valid name. Returns the old and the new name of each renamed room.

    If several rooms have the same best name, the room with the most messages gets it, and
    the others get the next free names: logs are not merged. The caller must have claimed
    the file.
    """
    rooms = [
        (row, name, next(valid_names(name)))
        for row, name in database.execute("SELECT id, name FROM rooms ORDER BY last DESC, id")
    ]
    best_names = {best for _, _, best in rooms}
    given: set[str] = set()
    # The remaining candidates for each best name that is given away.
    further: dict[str, Iterator[str]] = {}
    changes: list[tuple[int, str, str]] = []
    for row, old, best in rooms:
        new = best
        if best in given:
            names = further.setdefault(best, valid_names(old))
            new = next(name for name in names if name not in best_names and name not in given)
        given.add(new)
        if new != old:
            changes.append((row, old, new))
    if changes:
        database.execute("BEGIN IMMEDIATE")
        try:
            # Names must be unique after every statement, so rename to temporary names first.
            # They have a slash, which no valid name has.
            steps = [(f"/{row}", row) for row, _, _ in changes]
            steps += [(new, row) for row, _, new in changes]
            database.executemany("UPDATE rooms SET name = ? WHERE id = ?", steps)
            database.execute("COMMIT")
        finally:
            if database.in_transaction:
                database.execute("ROLLBACK")
    return [(old, new) for _, old, new in changes]
