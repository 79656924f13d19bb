"""backup, check, prune and stats: of SQLite while a server runs, of Redis, of damaged files."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from syncchat import Client
from syncchat.chat.events import Error, Message
from syncchat.engine import Draft
from tests.cli.test_archive import export, fill, import_, opened
from tests.peer import PATIENCE
from tests.people import Json
from tests.processes import SERVER, ServerScript, run
from tests.redis_server import RedisProcess


def run_command(*arguments: str | Path, code: int = 0) -> str:
    """What a command prints: for the code 0 or 1 with faults its output, else its complaint."""
    result = run([*SERVER, *map(str, arguments)])
    assert result.returncode == code, result
    return result.stdout or result.stderr


@contextmanager
def talking(url: str, enough: int) -> Iterator[None]:
    """Somebody who talks all the time; ``enough`` messages before the block begins."""
    stop = threading.Event()
    said: list[str | None] = []

    with Client(url) as client:

        def talk() -> None:
            while not stop.wait(0.001):
                said.append(client.say(f"line {len(said)}"))

        talker = threading.Thread(target=talk, name="talker")
        talker.start()
        try:
            for event in client:
                if isinstance(event, Message) and event.text == f"line {enough}":
                    break
            yield
        finally:
            stop.set()
            talker.join(PATIENCE)
        for event in client:
            # The server refuses a message that it cannot store.
            assert not isinstance(event, Error), event
            if isinstance(event, Message) and event.text == f"line {len(said) - 1}":
                return


def test_a_backup_of_a_busy_server_is_a_whole_database(tmp_path: Path) -> None:
    path, copy = tmp_path / "chat.db", tmp_path / "copy.db"
    engine, flags = f"sqlite:{path}", ("--rate", "0", "--engine")
    say(engine, 1, 500)
    with ServerScript(*flags, engine) as server:
        with talking(server.url + "room0", 20):
            assert run_command("backup", copy, "--engine", engine) == f"copied {engine} to {copy}\n"
        assert run_command("check", "--engine", engine) == "no fault found\n"
        figures = json.loads(run_command("stats", "--engine", engine, "--json"))
        assert figures["sizes"]["file"] > 0
        assert figures["rooms"][0]["messages"] >= 520
    assert sorted(each.name for each in tmp_path.iterdir() if "copy" in each.name) == ["copy.db"]
    # Not in WAL mode (SQLite's file format, 1.3.3), so that it can be read where it is read-only.
    assert copy.read_bytes()[18:20] == b"\1\1"
    assert copy.stat().st_mode & 0o777 == 0o600
    assert run_command("check", "--engine", f"sqlite:{copy}") == "no fault found\n"
    # Restored: the same epoch, and what was said until then.
    with opened(f"sqlite:{copy}") as log, opened(engine) as whole:
        end = log.follow("room0")
        assert end.epoch == whole.follow("room0").epoch
        assert 520 < end.offset <= whole.follow("room0").offset
    with ServerScript(*flags, f"sqlite:{copy}") as server, Json(server.url + "room0") as bob:
        assert bob.event("welcome")["offset"] == end.offset
        bob.ask(type="search", words="line 20")
        assert bob.find("history")["messages"]


def say(engine: str, rooms: int, messages: int) -> None:
    with opened(engine) as log:
        for room in range(rooms):
            for at in range(0, messages, 500):
                numbers = range(at, min(at + 500, messages))
                drafts = [
                    Draft("ann", f"{n} of {'many ' * 9}", "message", f"n{n}") for n in numbers
                ]
                log.append(f"room{room}", drafts)


def edit(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as database:
        for statement in statements:
            database.execute(statement)
        database.commit()


def test_check_tells_each_fault(tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    engine = f"sqlite:{path}"
    say(engine, 2, 20)
    before = path.read_bytes()
    assert run_command("check", "--engine", engine) == "no fault found\n"
    assert path.read_bytes() == before
    edit(path, "DELETE FROM messages WHERE offset IN (7, 8, 9) AND room = 1")
    edit(path, "UPDATE messages SET text = 'forged' WHERE offset = 6 AND room = 1")
    edit(path, "UPDATE rooms SET last = 19 WHERE id = 2")
    edit(path, "INSERT INTO nonces VALUES (3, 'x', 1, 0)")
    assert run_command("check", "--engine", engine, code=1).splitlines() == [
        "the search index does not match the messages",
        "1 nonces belong to no room",
        "room room0: messages are missing: offsets 7 to 9",
        "room room1: the newest message has offset 20, but the log ends at 19",
        "room room0: a nonce points at offset 6, which is another message",
        *(
            f"room room0: a nonce points at offset {offset}, where there is no message"
            for offset in (7, 8, 9)
        ),
    ]
    damaged = tmp_path / "damaged.db"
    # One of the index of the rooms' names.
    head, _, tail = before.rpartition(b"room0")
    damaged.write_bytes(head + b"roomX" + tail)
    assert "missing from index" in run_command("check", "--engine", f"sqlite:{damaged}", code=1)
    damaged.write_bytes(before[:4096] + b"\xff" * 4096 + before[8192:])
    good = tmp_path / "good.db"
    good.write_bytes(before)
    complaint = run_command("backup", good, "--engine", f"sqlite:{damaged}", code=1)
    assert complaint == f"{damaged} is damaged, and not copied: 'check' tells more\n"
    assert good.read_bytes() == before
    damaged.write_bytes(b"SQLite format 3\0" + b"\xff" * 8000)
    assert run_command("check", "--engine", f"sqlite:{damaged}", code=1).startswith("cannot use ")


def damaged_record(kind: str, name: str) -> str:
    return (
        f"the record {kind!r} of {name!r} is damaged and has no effect: restore a backup, or set it"
        " anew"
    )


#: A flipped bit in a text, a type that changed, a ban of which a part is lost.
DAMAGE = (
    "UPDATE messages SET text = CAST(x'41ff42' AS TEXT) WHERE offset = 2 AND room = 1",
    "UPDATE messages SET text = CAST(text AS BLOB), nonce = NULL WHERE offset = 3 AND room = 1",
    "UPDATE messages SET time = 1e300 WHERE offset = 4 AND room = 1",
    "INSERT INTO records VALUES ('ban', 'room0' || char(0) || 'bob', '{\"target\":\"bo')",
    "INSERT INTO records VALUES ('redacted', 'room0', x'')",
    "INSERT INTO records VALUES ('people', 'eve', 5), ('people-key', 'k', zeroblob(65))",
    "INSERT INTO records VALUES ('topic', 'room0', x'ff'), ('motd', '', x'ff')",
    "DELETE FROM records_version",
)


@pytest.mark.slow
def test_a_server_works_with_a_damaged_file_and_check_tells_what_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    engine = f"sqlite:{path}"
    say(engine, 1, 5)
    edit(path, *DAMAGE)
    faults = run_command("check", "--engine", engine, code=1).splitlines()
    damaged = [
        damaged_record("ban", "room0 bob"),
        damaged_record("motd", ""),
        damaged_record("people", "eve"),
        damaged_record("people-key", "k"),
        damaged_record("redacted", "room0"),
        damaged_record("topic", "room0"),
    ]
    assert faults == [
        "the search index does not match the messages",
        *(f"room room0: the message with offset {offset} is damaged" for offset in (2, 3, 4)),
        "room room0: a nonce points at offset 2, which is another message",
        "room room0: a nonce points at offset 3, which is another message",
        *damaged,
    ]
    stats = run_command("stats", "--engine", engine)
    assert stats.endswith("to an invalid time\n")
    assert run_command("people", "list", "--engine", engine) == ""
    with ServerScript("--engine", engine) as server:
        with Json(server.url + "room0?history=5&nick=bob") as bob:
            texts = [each["text"] for each in bob.find("history")["messages"]]
            assert texts[1:3] == ["A\ufffdB", "2 of " + "many " * 9]
            bob.ask(type="say", text="hi", nonce="n")
            assert bob.find("message")["offset"] == 6
    assert sorted(server.errors) == damaged
    edit(path, "UPDATE rooms SET last = 'x'")
    complaint = f"cannot use {path}: it is damaged: the room room0 has no valid end\n"
    assert run_command("--engine", engine, code=1) == complaint
    assert run_command("prune", "--keep", "1", "--engine", engine) == "deleted 0 messages\n"
    path.write_bytes(b"")
    complaint = f"cannot use {path}: it is empty: no server has used it\n"
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for command in (["backup", loop], ["check"], ["stats"], ["prune", "--keep=1"]):
        assert run_command(*command, "--engine", engine, code=1) == complaint


@pytest.mark.slow
def test_prune_beside_a_server_and_without_one(tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    engine = f"sqlite:{path}"
    say(engine, 2, 3000)
    size = path.stat().st_size
    flags = ("--rate", "0", "--engine", engine)
    with ServerScript(*flags) as server, Json(server.url + "room0") as ann:
        epoch = ann.event("welcome")["epoch"]
        with talking(server.url + "other", 1):
            result = run([*SERVER, "prune", "--keep", "100", "--engine", engine])
        assert result.returncode == 0
        assert int(result.stdout.split()[1]) >= 5800
        assert result.stderr == "a server uses the file, which keeps its size\n"
        ann.ask(type="say", text="still here", nonce="n")
        assert ann.find("message")["offset"] == 3001
        ann.ask(type="search", words="still")
        assert len(ann.find("history")["messages"]) == 1
        with Json(f"{server.url}room0?after={epoch}:2000") as bob:
            bob.event("welcome")
            assert bob.find("history")["complete"] is False
    assert path.stat().st_size >= size
    assert run_command("check", "--engine", engine) == "no fault found\n"
    edit(path, "DELETE FROM messages WHERE room = 3", "DELETE FROM nonces WHERE room = 3")
    assert run_command("prune", "--keep", "50", "--engine", engine) == "deleted 101 messages\n"
    assert path.stat().st_size < size * 0.7  # The nonces stay.
    assert run_command("prune", "--keep", "1d", "--engine", engine) == "deleted 0 messages\n"
    edit(path, "UPDATE messages SET time = 1.7e9 WHERE room = 2")
    lines = run_command("stats", "--engine", engine).splitlines()
    assert lines[0].startswith("3 rooms, 100 messages, ")
    assert lines[-1].endswith("from 2023-11-14T22:13:20Z to 2023-11-14T22:13:20Z")
    assert run_command("prune", "--keep", "1d", "--engine", engine) == "deleted 50 messages\n"
    assert run_command("stats", "--engine", engine).splitlines()[-1] == (
        "room1: 0 messages up to offset 3000, 0 bytes"
    )
    assert run_command("check", "--engine", engine) == "no fault found\n"


@pytest.mark.slow
def test_a_redis_is_copied_checked_and_counted_while_servers_use_it(tmp_path: Path) -> None:
    source, file, again = f"sqlite:{tmp_path / 'a.db'}", tmp_path / "log", tmp_path / "again"
    fill(source, rooms=2, messages=20)
    with RedisProcess() as redis:
        export(source, file)
        import_(redis.url, file)
        assert run_command("backup", again, "--engine", redis.url) == f"exported to {again}\n"
        assert again.read_bytes() == file.read_bytes()
        # Those of fill() are not what a server writes.
        records = [damaged_record("ban", "bob"), damaged_record("topic", "room1")]
        assert run_command("check", "--engine", redis.url, code=1).splitlines() == records
        there = json.loads(run_command("stats", "--json", "--engine", redis.url))["rooms"]
        assert there == json.loads(run_command("stats", "--json", "--engine", source))["rooms"]
        assert "start them with --keep" in run_command(
            "prune", "--keep=1", "--engine", redis.url, code=1
        )
        redis.ask("XDEL", "syncchat:{room1}:log", "7-0", "20-0")
        assert run_command("check", "--engine", redis.url, code=1).splitlines() == [
            *records,
            "room room1: messages are missing: offsets 7 to 7",
            "room room1: the log ends at 20, its messages at 19",
        ]


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["backup"], 2, "FILE"),
        (["stats"], 2, "memory: has no messages"),
        (["check", "--engine", "nonsense"], 2, "is not an engine"),
        (["prune", "--engine", "sqlite:x"], 2, "--keep is needed"),
        (["prune", "--engine", "sqlite:x", "--keep", "much"], 2, "--keep"),
        (["check", "--engine", "sqlite:missing.db"], 1, "cannot use missing.db: it does not exist"),
        pytest.param(
            ["stats", "--engine", "redis://127.0.0.1:1/0"],
            1,
            "cannot use redis://127.0.0.1:1/0",
            marks=pytest.mark.slow,
        ),
        (["backup", "/dev/null", "--engine", "ENGINE"], 1, "/dev/null is not a file"),
        (["backup", "FILE", "--engine", "ENGINE"], 1, "is the file of the engine itself"),
        (["backup", "/nonexistent/x", "--engine", "ENGINE"], 1, "no such file or directory"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_line(
    tmp_path: Path, arguments: list[str], code: int, complaint: str
) -> None:
    path = tmp_path / "chat.db"
    with opened(f"sqlite:{path}") as engine:
        engine.append("a", [Draft("ann", "x")])
    names = {"ENGINE": f"sqlite:{path}", "FILE": str(path)}
    result = run([*SERVER, *(names.get(each, each) for each in arguments)])
    assert (result.returncode, result.stdout) == (code, "")
    assert complaint in result.stderr.splitlines()[-1]
    assert not os.path.exists("missing.db")  # noqa: PTH110 - where the process was
