"""The records of engines: people, bans and the like. One suite for all engines."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from syncchat.chat import events
from syncchat.engine import Engine, Record, Retention, open_engine, open_records
from syncchat.errors import EngineUnusable
from tests.redis_server import RedisProcess

#: Opens an engine, and the name and file with which open_records() finds its records.
Place = tuple[Callable[[], Engine], str, str | None]


@pytest.fixture(params=["people file", "sqlite:", "redis:"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with contextlib.ExitStack() as stack:
        people = None
        match request.param:
            case "redis:":
                name = stack.enter_context(RedisProcess()).url
            case "sqlite:":
                name = f"sqlite:{tmp_path / 'chat.db'}"
            case _:
                name, people = "memory:", str(tmp_path / "people.db")

        def opened() -> Engine:
            engine = open_engine(name, Retention(), codec=events.LIVE_CODEC, people=people)
            stack.callback(engine.close)
            return engine

        yield opened, name, people


def test_another_process_writes_while_a_server_runs(place: Place) -> None:
    opened, name, people = place
    mine = opened().records
    with contextlib.closing(open_records(name, people)) as theirs:
        before = mine.version()
        theirs.write([Record("people", "ann", b"1"), Record("people", "bob", b"\x00\xff")])
        assert mine.version() != before
        assert mine.read("people") == {"ann": b"1", "bob": b"\x00\xff"}
        assert mine.get("people", "bob") == b"\x00\xff"
        mine.write([Record("people", "ann", None), Record("ban", "bob", b"")])
        assert theirs.read("people") == {"bob": b"\x00\xff"}
        assert theirs.get("ban", "bob") == b""
        assert theirs.get("ban", "ann") is None


def test_the_version_changes_with_announced_writes_only(place: Place) -> None:
    records = place[0]().records
    versions = [records.version()]
    for number in range(3):
        records.write([Record("places/ann", str(number), b"e:1")], announce=False)
        assert records.version() == versions[-1]
        records.write([Record("ban", str(number), b"")])
        versions.append(records.version())
    assert len(set(versions)) == 4


def test_records_outlive_a_restart(place: Place) -> None:
    opened, name, people = place
    engine = open_engine(name, Retention(), codec=events.LIVE_CODEC, people=people)
    engine.records.write([Record("topic", "lobby", "Grüße".encode())])
    engine.close()
    assert opened().records.read("topic") == {"lobby": "Grüße".encode()}


def test_writes_of_many_threads_are_all_kept(place: Place) -> None:
    records = place[0]().records

    def write(number: int) -> None:
        for each in range(10):
            records.write([Record("ban", f"{number}-{each}", b"x")])

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(records.read("ban")) == 40


def test_records_in_memory_have_no_other_writer() -> None:
    with contextlib.closing(open_engine("memory:", Retention())) as engine:
        assert not engine.records.is_shared
        engine.records.write([Record("ban", "bob", b"")])
        assert engine.records.read("ban") == {"bob": b""}
        engine.records.write([Record("ban", "bob", None)])
        assert engine.records.read("ban") == {}
    with pytest.raises(ValueError, match="--people FILE"):
        open_records("memory:")


def test_a_file_of_another_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE things (name TEXT)")
    with pytest.raises(EngineUnusable, match="another program"):
        open_engine("memory:", Retention(), people=str(path))
    with pytest.raises(ValueError, match="for memory: only"):
        open_engine(f"sqlite:{tmp_path / 'chat.db'}", Retention(), people=str(path))


def test_a_file_without_records_gets_them(tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    open_engine(f"sqlite:{path}", Retention()).close()
    with contextlib.closing(sqlite3.connect(path)) as database:
        # As an earlier version has left it.
        database.execute("DROP TABLE records")
        database.execute("DROP TABLE records_version")
        database.execute("PRAGMA user_version = 1")
    with contextlib.closing(open_engine(f"sqlite:{path}", Retention())) as engine:
        engine.records.write([Record("ban", "bob", b"")])
        assert engine.records.read("ban") == {"bob": b""}
