"""The SQLite engine: files, locks, a failing disk, kills."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest

from syncchat import ChatServer
from syncchat.engine import (
    Candidate,
    Draft,
    Retention,
    SqliteEngine,
    open_engine,
)
from syncchat.errors import EngineFailed, EngineUnusable
from tests.engine.drafts import texts
from tests.peer import PATIENCE
from tests.people import Json, url_of


def test_the_position_before_the_first_message_survives_a_restart(tmp_path: Path) -> None:
    name = f"sqlite:{tmp_path / 'chat.db'}"
    engine = open_engine(name, Retention())
    place = engine.follow("a")
    assert place.offset == 0
    assert engine.follow("b").epoch != place.epoch
    engine.close()
    engine = open_engine(name, Retention())
    assert engine.follow("a") == place
    engine.append("a", texts(2))
    assert engine.read_after("a", place, 10).complete
    engine.close()


def test_close_interrupts_searches_and_waits_for_locks(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:{tmp_path / 'chat.db'}", Retention())
    engine.append("a", [Draft("ann", f"w{number} and and") for number in range(5000)])
    begun = threading.Semaphore(0)

    def keep_on(call: Callable[[], object]) -> None:
        begun.release()
        try:
            while True:
                call()
        except EngineFailed:
            return

    threads = [
        threading.Thread(target=keep_on, args=(call,))
        for call in [
            *[lambda: engine.search("a", "a w an", 1000)] * 10,
            *[lambda: engine.append("b", texts(1))] * 5,
            *[lambda: engine.read_before("a", None, 1000)] * 2,
        ]
    ]
    with contextlib.closing(sqlite3.connect(tmp_path / "chat.db")) as other:
        other.execute("BEGIN IMMEDIATE")
        for thread in threads:
            thread.start()
        for _ in threads:
            begun.acquire()
        begin = time.monotonic()
        engine.close()
        # A transaction that waits for the other program would give up after two seconds.
        assert time.monotonic() - begin < 1.9
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()


def test_close_does_not_deadlock_with_a_search_that_begins(
    tmp_path: Path,
) -> None:
    engine = open_engine(f"sqlite:{tmp_path / 'chat.db'}", Retention())
    engine.append("a", texts(10))
    has_turn, go_on = threading.Event(), threading.Event()

    def pause(frame: FrameType, event: str, _: object) -> None:
        # SearchThrottle.take() yields: the search has its turn and holds no lock yet.
        if (event, frame.f_code.co_name) == ("return", "take") and not has_turn.is_set():
            has_turn.set()
            go_on.wait(PATIENCE)

    def search() -> None:
        sys.setprofile(pause)
        with contextlib.suppress(EngineFailed):
            engine.search("a", "message", 10)

    searching = threading.Thread(target=search, daemon=True)
    searching.start()
    assert has_turn.wait(PATIENCE)
    closing = threading.Thread(target=engine.close, daemon=True)
    closing.start()
    # Time for close() to take every lock that it takes before the search ends.
    closing.join(0.2)
    assert closing.is_alive()
    go_on.set()
    for thread in (closing, searching):
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_entering_and_reading_do_not_wait_for_a_write(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:{tmp_path / 'chat.db'}", Retention())
    engine.append("a", texts(3))
    writing = threading.Thread(target=lambda: engine.append("a", texts(1)))
    with contextlib.closing(sqlite3.connect(tmp_path / "chat.db")) as other:
        other.execute("BEGIN IMMEDIATE")
        writing.start()
        for room in ("b", "c"):
            begin = time.monotonic()
            engine.follow(room)
            engine.enter(room, [Candidate("ann")], None, 10, with_names=True)
            assert len(engine.read_before("a", None, 10).messages) == 3
            assert time.monotonic() - begin < 0.5
        assert writing.is_alive()
        other.execute("ROLLBACK")
    writing.join(PATIENCE)
    assert engine.follow("a").offset == 4
    engine.close()


def test_a_failed_entry_claims_no_nick(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:{tmp_path / 'chat.db'}", Retention())
    engine.close()
    with pytest.raises(EngineFailed):
        engine.enter("a", [Candidate("ann")], None, 10, with_names=True)
    assert engine.names("a") == []


def test_appended_messages_survive_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    program = (
        "import sys; from syncchat.engine import *\n"
        f"engine = SqliteEngine({str(path)!r}, Retention())\n"
        "print(engine.follow('a').epoch, flush=True)\n"
        "number = 0\n"
        "while True:\n"
        "    number += 1\n"
        "    (answer,) = engine.append('a', [Draft('ann', str(number), nonce=str(number))])\n"
        "    print(answer.offset, flush=True)\n"
    )
    epochs, last = set(), 0
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            epochs.add(process.stdout.readline())
            while True:
                offset = int(process.stdout.readline())
                if offset >= last + 20:
                    break
            process.kill()
            rest = process.stdout.read().split("\n")[:-1]
            last = int(rest[-1]) if rest else offset
        engine = SqliteEngine(str(path), Retention())
        entries = engine.read_before("a", None, 10_000).messages
        engine.close()
        assert [entry.offset for entry in entries] == list(range(1, len(entries) + 1))
        assert len(entries) >= last
    assert len(epochs) == 1


@pytest.mark.parametrize("damage", ["header", "middle", "text", "other"])
def test_a_foreign_or_damaged_file_is_not_changed(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "chat.db"
    if damage == "other":
        with sqlite3.connect(path) as database:
            database.execute("CREATE TABLE theirs (x)")
        database.close()
    elif damage == "text":
        path.write_bytes(b"dear diary, " * 1000)
    else:
        engine = SqliteEngine(str(path), Retention())
        engine.append("a", [Draft("ann", "x" * 1000) for _ in range(200)])
        engine.close()
        data = bytearray(path.read_bytes())
        at = 0 if damage == "header" else 4096 * 8
        data[at : at + 3000] = b"\xff" * 3000
        path.write_bytes(data)
    before = path.read_bytes()
    with pytest.raises(EngineUnusable, match="cannot use") as caught:
        SqliteEngine(str(path), Retention())
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before


def test_a_file_of_a_later_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    SqliteEngine(str(path), Retention()).close()
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(EngineUnusable, match="a later version"):
        SqliteEngine(str(path), Retention())


def test_a_read_only_disk_is_a_temporary_error(
    tmp_path: Path, pragma: Callable[[str], None]
) -> None:
    engine = SqliteEngine(str(tmp_path / "chat.db"), Retention())
    engine.append("a", texts(1))
    pragma("query_only = 1")
    for room in ("a", "new"):
        with pytest.raises(EngineFailed, match="readonly"):
            engine.append(room, texts(1))
        assert engine.follow(room).offset == (room == "a")
    assert len(engine.read_before("a", None, 10).messages) == 1
    pragma("query_only = 0")
    assert engine.append("a", texts(1))[0].offset == 2
    assert engine.append("new", texts(1))[0].offset == 1
    engine.close()


def test_a_full_disk_is_a_temporary_error(tmp_path: Path, pragma: Callable[[str], None]) -> None:
    engine = SqliteEngine(str(tmp_path / "chat.db"), Retention())
    engine.append("a", texts(3))
    # Never fewer than exist.
    pragma("max_page_count = 1")
    big = [Draft("ann", "x" * 5000) for _ in range(20)]
    with pytest.raises(EngineFailed, match="full"):
        engine.append("a", big)
    assert engine.follow("a").offset == 3
    assert len(engine.read_before("a", None, 10).messages) == 3
    pragma("max_page_count = 1000000")
    assert engine.append("a", big)[0].offset == 4
    engine.close()


def test_a_message_sent_again_is_acknowledged_and_not_refused_by_a_failing_disk(
    tmp_path: Path, pragma: Callable[[str], None]
) -> None:
    with (
        ChatServer(port=0, engine=f"sqlite:{tmp_path / 'chat.db'}", notices=False) as chat,
        Json(url_of(chat, "/?nick=ann")) as ann,
    ):
        epoch = ann.event("welcome")["epoch"]
        ann.ask(type="say", text="one", nonce="n1")
        ann.event("message")
        pragma("query_only = 1")
        # As a client does that has not seen the answer.
        ann.ask(type="say", text="one", nonce="n1")
        assert ann.event() == {"type": "ack", "nonce": "n1", "offset": 1, "epoch": epoch}
        ann.ask(type="say", text="two", nonce="n2")
        assert ann.event("error")["nonce"] == "n2"
        # The same nonce with another text is another message.
        ann.ask(type="say", text="three", nonce="n1")
        assert ann.event("error")["nonce"] == "n1"
