"""What the client keeps between runs: the places in the rooms, ignored people, words to mark."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from .rooms import Room

__all__ = ["Keeper"]

#: Seconds to wait for another client that writes.
_PATIENCE = 2.0

#: The kinds of words that are kept.
Kind = Literal["ignored", "marked"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS places (
    server TEXT, room TEXT, epoch TEXT, seen INTEGER, watched INTEGER, PRIMARY KEY (server, room)
);
CREATE TABLE IF NOT EXISTS words (kind TEXT, word TEXT, PRIMARY KEY (kind, word));
"""

#: A client that is behind does not undo what another one has seen.
_PUT_PLACE = """
INSERT INTO places VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
    seen = CASE WHEN epoch = excluded.epoch THEN max(seen, excluded.seen) ELSE excluded.seen END,
    epoch = excluded.epoch, watched = excluded.watched
"""


class Keeper:
    """A file that several clients may use at the same time. Any thread may call every method.

    Keeps the places in the rooms of the server of ``url``, and words for all servers. Only
    the owner can read the file. If it cannot be used, the first failure is told to
    :attr:`warn`, and nothing is kept.
    """

    def __init__(self, path: Path, url: str) -> None:
        self._path = path
        parts = urlsplit(url)
        prefix = parts.path.rpartition("/")[0]
        self._server = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{prefix}".lower()
        #: Gets a line for the user. Replace it before the first call.
        self.warn: Callable[[str], None] = lambda _text: None
        self._failed = False

    def rooms(self) -> list[Room]:
        """Return the rooms in the order in which the user first came."""
        query = "SELECT room, epoch, seen, watched FROM places WHERE server = ? ORDER BY rowid"
        return [
            Room(name, epoch, seen, seen, watched=bool(watched))
            for name, epoch, seen, watched in self._read(query, self._server)
        ]

    def put_rooms(self, rooms: Iterable[Room]) -> None:
        """Keep the places in ``rooms``."""
        rows = [(self._server, room.name, room.epoch, room.seen, room.watched) for room in rooms]
        if rows:
            self._write(_PUT_PLACE, rows)

    def words(self, kind: Kind) -> list[str]:
        """Return the words of that kind."""
        return [
            word
            for (word,) in self._read("SELECT word FROM words WHERE kind = ? ORDER BY rowid", kind)
        ]

    def put_word(self, kind: Kind, word: str) -> None:
        """Keep a word."""
        self._write("INSERT OR IGNORE INTO words VALUES (?, ?)", [(kind, word)])

    def drop_word(self, kind: Kind, word: str) -> None:
        """Keep a word no more, in whatever case it is written."""
        gone = [each for each in self.words(kind) if each.casefold() == word.casefold()]
        self._write(
            "DELETE FROM words WHERE kind = ? AND word = ?", [(kind, each) for each in gone]
        )

    # Internals.

    def _read(self, query: str, value: str) -> list[tuple[Any, ...]]:
        try:
            with closing(self._open()) as file:
                return file.execute(query, (value,)).fetchall()
        except (OSError, sqlite3.Error) as exc:
            self._complain(exc)
            return []

    def _write(self, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
        try:
            with closing(self._open()) as file, file:
                file.executemany(statement, rows)
        except (OSError, sqlite3.Error) as exc:
            self._complain(exc)

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
        file = sqlite3.connect(self._path, timeout=_PATIENCE)
        try:
            file.executescript(_SCHEMA)
        except BaseException:
            file.close()
            raise
        return file

    def _complain(self, exc: OSError | sqlite3.Error) -> None:
        if not self._failed:
            self._failed = True
            why = exc.strerror if isinstance(exc, OSError) else exc
            self.warn(f"What you have read cannot be kept: {self._path}: {why}.")
