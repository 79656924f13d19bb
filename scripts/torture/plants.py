"""Bugs that are planted in a server, to show that the torture test finds them.

``python scripts/torture/plants.py NAME FLAGS...`` starts the server with one of them. They
replace functions of this process only; the code of the server knows nothing of them.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import secrets
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

#: Every so many nonces is ignored, and every so many names is not released.
_NONCES, _NAMES = 1000, 10


def _module(name: str) -> Any:
    """A module of syncchat, whose names may be replaced."""
    return importlib.import_module(f"syncchat.{name}")


def skip_fsync() -> None:
    """SQLite does not flush the file to the disk. Shown by a power cut."""
    sqlite = _module("engine.sqlite")
    connect = sqlite.connect

    def connected(*args: Any, **settings: Any) -> Any:
        database = connect(*args, **settings)
        database.execute("PRAGMA synchronous = OFF")
        return database

    sqlite.connect = connected


def deliver_before_commit() -> None:
    """Members get new messages while SQLite has still to commit them."""
    sqlite = _module("engine.sqlite")
    engine = sqlite.SqliteEngine
    store, append = engine._store, engine.append  # noqa: SLF001 - replaced in this process only
    #: One room at a time, so that its messages are stored on its own thread.
    turn = threading.Lock()

    def stored(
        self: Any, database: sqlite3.Connection, room: str, drafts: Any, answers: Any, new: Any
    ) -> None:
        store(self, database, room, drafts, answers, new)
        if new:
            # What is delivered again after the commit reaches nobody.
            end = sqlite.Position(answers[0].epoch, new[-1].offset)
            self._deliver(room, sqlite.Delivery(end, [*new]))

    def appended(self: Any, room: str, drafts: Any) -> Any:
        with turn:
            return append(self, room, drafts)

    engine._store, engine.append = stored, appended  # noqa: SLF001 - as above


def ignore_nonce() -> None:
    """Every thousandth nonce is not recognized."""
    modules = [_module("engine.memory"), _module("engine.sqlite")]
    with contextlib.suppress(ImportError):  # The library for Redis need not be installed.
        modules.append(_module("engine.redis_append"))
    count = itertools.count(1)
    fingerprint = modules[0].fingerprint

    def forgetful(draft: Any) -> str | None:
        return fingerprint(draft) if next(count) % _NONCES else secrets.token_hex(8)

    for module in modules:
        module.fingerprint = forgetful


def lose_last_frame() -> None:
    """The last write of a backlog is lost when the peer reads again."""
    backlog = _module("net.backlog").Backlog
    take_waiting = backlog.take_waiting

    def lossy(self: Any) -> Any:
        # One write alone may be the answer to a handshake.
        if len(self._waiting) > 1:
            self.size -= len(self._waiting.pop())
        return take_waiting(self)

    backlog.take_waiting = lossy


def hide_gap() -> None:
    """A client that comes back is told that it has missed nothing."""
    memory, sqlite = _module("engine.memory"), _module("engine.sqlite")
    tail_of = memory.tail_of

    def complete(*args: Any, **settings: Any) -> Any:
        return tail_of(*args, **{**settings, "known": True})

    memory.tail_of = sqlite.tail_of = complete


def tell_strangers() -> None:
    """Everybody in the room gets private messages."""
    room = _module("chat.room")
    take_live = room.Room.take_live

    def public(self: Any, event: Any) -> None:
        if isinstance(event, room.PrivateMessage):
            self._do(lambda: self._members.tell([event]))
        else:
            take_live(self, event)

    room.Room.take_live = public


def leak_name() -> None:
    """Every tenth name stays taken after its client has left."""
    engine = _module("engine.local").LocalEngine
    release = engine.release
    count = itertools.count(1)

    def leaking(self: Any, room: str, nick: str) -> None:
        if next(count) % _NAMES:
            release(self, room, nick)

    engine.release = leaking


#: Each bug with its name, and the engine that shows it.
PLANTS: dict[str, tuple[str, Callable[[], None]]] = {
    "skip-fsync": ("sqlite", skip_fsync),
    "deliver-before-commit": ("sqlite", deliver_before_commit),
    "ignore-nonce": ("memory", ignore_nonce),
    "lose-last-frame": ("memory", lose_last_frame),
    "hide-gap": ("memory", hide_gap),
    "tell-strangers": ("memory", tell_strangers),
    "leak-name": ("memory", leak_name),
}


def main(arguments: Iterable[str]) -> int:
    """Start the server with the bug of this name."""
    rest: Iterator[str] = iter(arguments)
    name = next(rest)
    # In place of the folder of this file, whose modules have names of libraries.
    sys.path[0] = str(ROOT)
    PLANTS[name][1]()
    code: int = _module("cli").server_main(list(rest))
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
