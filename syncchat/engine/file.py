"""The file of the SQLite engine: looked at before it is touched, claimed, brought up to date."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from urllib.parse import quote

from .interface import EngineUnusable
from .schema import APPLICATION_ID, MIGRATIONS, TABLES, VERSION

__all__ = ["claim", "connect", "inspect", "migrate"]

#: Seconds that one process waits for another's transaction.
_BUSY_SECONDS = 5.0
#: And for another server that is about to end.
_CLAIM_SECONDS = 2.0


def connect(path: str, mode: str = "rwc", timeout: float = _BUSY_SECONDS) -> sqlite3.Connection:
    """A connection that any thread may use, under a lock; without Python's own transactions."""
    database = sqlite3.connect(
        f"file:{quote(path)}?mode={mode}",
        uri=True,
        timeout=timeout,
        isolation_level=None,
        check_same_thread=False,
    )
    if mode != "ro":
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
    return database


def claim(path: str) -> sqlite3.Connection:
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


def inspect(path: str) -> None:
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
        with contextlib.closing(connect(path, "ro")) as database:
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


def migrate(database: sqlite3.Connection) -> None:
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
