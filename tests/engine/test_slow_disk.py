"""A disk that is slow, full or locked: who waits for it, and who does not."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import statistics
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from syncchat import ChatServer
from syncchat.engine import Delivery, Draft, Retention, SqliteEngine
from syncchat.errors import EngineFailed
from tests.engine.drafts import texts
from tests.peer import PATIENCE, wait_for
from tests.people import Json, url_of
from tests.processes import ServerScript
from tests.torture import scripts

with scripts():
    from torture.shim import Shim

ROOMS = [f"room{number}" for number in range(50)]


@contextlib.contextmanager
def locked(path: Path) -> Iterator[sqlite3.Connection]:
    """Another program, which is about to write to the file."""
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield other


class Appending:
    """Threads that append to rooms, all of them at the same time."""

    def __init__(self, engine: SqliteEngine, drafts: dict[str, list[Draft]]) -> None:
        self.stored: dict[str, list[int]] = {}
        self.failures: dict[str, Exception] = {}
        self._engine = engine
        self._threads = [
            threading.Thread(target=self._append, args=item) for item in drafts.items()
        ]
        for thread in self._threads:
            thread.start()

    def _append(self, room: str, drafts: list[Draft]) -> None:
        try:
            self.stored[room] = [each.offset for each in self._engine.append(room, drafts)]
        except Exception as exc:
            self.failures[room] = exc

    def join(self) -> None:
        for thread in self._threads:
            thread.join(PATIENCE)


def test_all_rooms_that_wait_share_a_commit_and_fail_alone(
    tmp_path: Path, pragma: Callable[[str], None]
) -> None:
    commits: list[float] = []
    engine = SqliteEngine(str(tmp_path / "chat.db"), Retention(), commits.append)
    delivered: dict[str, list[Delivery]] = {}
    engine.attach(lambda room, news: delivered.setdefault(room, []).append(news), lambda *_: None)
    for room in ROOMS:
        engine.append(room, texts(1))
    commits.clear()
    drafts = {room: [Draft("ann", room, nonce="n"), Draft("ann", "two")] for room in ROOMS}
    drafts["room7"].append(Draft("ann", "not encodable: \ud800"))
    with locked(tmp_path / "chat.db") as other:
        appending = Appending(engine, drafts)
        # The first one waits for the other program, the others for the first one.
        time.sleep(0.1)
        other.execute("ROLLBACK")
    appending.join()
    assert set(appending.failures) == {"room7"}
    assert isinstance(appending.failures["room7"], UnicodeEncodeError)
    assert all(appending.stored[room] == [2, 3] for room in ROOMS if room != "room7")
    assert len(commits) <= 3
    assert [each.position.offset for each in delivered["room8"]] == [1, 3]
    assert engine.follow("room7").offset == 1
    # Sent again, each is known by its nonce; and what failed has not left it behind.
    again = [engine.append(room, drafts[room][:1])[0] for room in ("room8", "room7")]
    assert [(each.offset, each.new) for each in again] == [(2, False), (2, True)]

    # One message that finds no room on the disk takes that of no other one.
    with contextlib.closing(sqlite3.connect(tmp_path / "chat.db")) as other:
        (pages,) = other.execute("PRAGMA page_count").fetchone()
    pragma(f"max_page_count = {pages + 20}")
    drafts = {room: texts(1) for room in ROOMS[:20]} | {"room30": [Draft("ann", "x" * 400_000)]}
    with locked(tmp_path / "chat.db") as other:
        appending = Appending(engine, drafts)
        time.sleep(0.1)
        other.execute("ROLLBACK")
    appending.join()
    assert set(appending.failures) == {"room30"}
    assert isinstance(appending.failures["room30"], EngineFailed)
    assert len(appending.stored) == 20
    engine.close()


def test_whoever_reads_does_not_wait_for_a_write(tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    with (
        ChatServer(port=0, engine=f"sqlite:{path}") as chat,
        Json(url_of(chat, "/busy?nick=ann")) as ann,
    ):
        ann.event("welcome")
        ann.ask(type="say", text="first words", nonce="n1")
        ann.find("message", text="first words")
        with locked(path) as other:
            ann.ask(type="say", text="second words", nonce="n2")
            begin = time.monotonic()
            with (
                Json(url_of(chat, "/busy?nick=bob&history=9")) as bob,
                Json(url_of(chat, "/quiet?nick=cas")) as cas,
            ):
                assert bob.event("welcome")["members"] == ["ann", "bob"]
                assert [each["text"] for each in bob.event("history")["messages"]] == [
                    "first words"
                ]
                ann.find("joined", nick="bob")
                bob.ask(type="history", limit=5)
                assert len(bob.find("history")["messages"]) == 1
                bob.ask(type="search", words="wor")
                assert len(bob.find("history")["messages"]) == 1
                cas.event("welcome")
                cas.ask(type="watch", rooms=["busy"])
                assert chat.members("busy") == ["ann", "bob"]
                assert [each.room for each in chat.rooms()] == ["busy", "quiet"]
                # The other program still writes, and a transaction waits two seconds for it.
                assert time.monotonic() - begin < 1.5
                other.execute("ROLLBACK")
                for member in (ann, bob):
                    event = member.find("message")
                    assert (event["text"], event["offset"]) == ("second words", 2)
                bob.ask(type="search", words="words")
                assert len(bob.find("history")["messages"]) == 2


@pytest.mark.slow
def test_while_the_file_is_locked_senders_are_told_and_others_are_let_in(tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    with (
        ChatServer(port=0, engine=f"sqlite:{path}", notices=False) as chat,
        contextlib.ExitStack() as stack,
    ):
        people = [
            stack.enter_context(Json(url_of(chat, f"/room{number % 5}?nick=nick{number}")))
            for number in range(20)
        ]
        for person in people:
            person.event("welcome")
        people[0].ask(type="say", text="before", nonce="n")
        people[0].find("message")

        def health() -> tuple[int, str]:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{chat.port}/healthz") as answer:
                    return answer.status, ""
            except urllib.error.HTTPError as refused:
                with refused:
                    return refused.code, json.load(refused)["reason"]

        with locked(path) as other:
            end = time.monotonic() + 6.0
            while time.monotonic() < end:
                begin = time.monotonic()
                for person in people:
                    person.ask(type="say", text="meanwhile", nonce="m")
                with Json(url_of(chat, "/room0?nick=zoe&history=9")) as zoe:
                    zoe.event("welcome")
                    assert [each["text"] for each in zoe.event("history")["messages"]] == ["before"]
                    assert time.monotonic() - begin < 1.0
                for person in people:
                    assert person.find("error", nonce="m")["code"] == "unavailable"
                    assert time.monotonic() - begin < 5.0
                assert health() == (503, "database is locked")
            other.execute("ROLLBACK")
        for person in people[1:6]:
            person.ask(type="say", text="after", nonce="l")
        for person in people[1:6]:
            person.find("message", text="after", nonce="l")
        assert health() == (200, "")


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.skipif(shutil.which("gcc") is None, reason="no compiler for the slow disk")
def test_with_a_flush_of_200_ms_a_hundred_people_in_50_rooms_wait_for_two(tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    shim = Shim(tmp_path, files)
    shim.set(flush=0.2)
    waits: list[float] = []
    entered: list[float] = []
    with ServerScript(
        "--engine", f"sqlite:{files / 'chat.db'}", "--rate", "0", **shim.environment
    ) as server:
        ends_at = time.monotonic() + 9.0
        ready = threading.Barrier(100)

        def talk(number: int) -> None:
            with Json(f"{server.url}room{number % 50}?nick=nick{number}") as person:
                count = 0
                ready.wait(PATIENCE)
                while time.monotonic() < ends_at:
                    begin = time.monotonic()
                    person.ask(type="say", text="hello", nonce=f"{number}.{count}")
                    person.find("message", nonce=f"{number}.{count}")
                    waits.append(time.monotonic() - begin)
                    count += 1

        threads = [threading.Thread(target=talk, args=(number,)) for number in range(100)]
        for thread in threads:
            thread.start()
        wait_for(lambda: len(waits) > 100)
        while time.monotonic() < ends_at:
            for room in (f"quiet{len(entered)}", "room0"):
                begin = time.monotonic()
                with Json(f"{server.url}{room}?nick=zoe{len(entered)}&history=5") as zoe:
                    zoe.event("welcome")
                    zoe.event("history")
                    entered.append(time.monotonic() - begin)
            time.sleep(0.1)
        for thread in threads:
            thread.join(PATIENCE)
    shim.close()
    waits.sort()
    slowest = waits[len(waits) * 99 // 100]
    print(f"{len(waits)} messages: {statistics.median(waits):.3f} s, 99 % {slowest:.3f} s;")
    print(f"entered within {max(entered):.3f} s")
    assert slowest < 1.0
    assert sorted(entered)[len(entered) * 9 // 10] < 0.3
