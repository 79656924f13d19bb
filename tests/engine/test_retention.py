"""The server with an engine: restarts, and failures of the disk."""

from __future__ import annotations

import contextlib
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from syncchat.engine.sqlite_file import APPLICATION_ID, VERSION
from tests.people import Json, Plain
from tests.processes import SERVER, ServerScript, run


def run_server(*flags: str, **changes: str) -> subprocess.CompletedProcess[str]:
    """A server that ends by itself."""
    return run([*SERVER, "--port", "0", *flags], **changes)


def test_sqlite_keeps_messages_across_a_restart(tmp_path: Path) -> None:
    flags = ["--engine", f"sqlite:{tmp_path / 'a %23?b.db'}", "--greeting", "", "--no-notices"]
    with ServerScript(*flags) as server, Json(server.url) as client:
        epoch = client.event("welcome")["epoch"]
        client.ask(type="say", text="kept")
        client.event("message")
    with ServerScript(*flags) as server:
        with Json(f"{server.url}?after={epoch}:0") as client:
            assert client.event("welcome")["epoch"] == epoch
            history = client.event("history")
            assert history["complete"]
            assert [message["text"] for message in history["messages"]] == ["kept"]
        with Plain(f"{server.url}?history=1") as plain:
            assert plain.hear().endswith(": kept")


def test_the_engine_is_chosen_by_flag_or_environment(tmp_path: Path) -> None:
    database = tmp_path / "chat.db"
    with ServerScript(SYNCCHAT_ENGINE=f"sqlite:{database}", SYNCCHAT_KEEP="5") as server:
        with Json(server.url) as client:
            client.event("welcome")
            for number in range(8):
                client.ask(type="say", text=str(number))
                client.event("message")
            client.ask(type="history", limit=100)
            history = client.event("history")
            assert [m["text"] for m in history["messages"]] == ["3", "4", "5", "6", "7"]
    assert database.exists()


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (["--engine", "oracle:"], "'oracle:' is not an engine: it must be memory:, sqlite:PATH,"),
        (["--engine", "sqlite:"], "is not an engine"),
        (["--keep", "much"], "must be a number of messages, such as 1000, or a time, such as 90s"),
        (["--keep", "-1"], "must be a number of messages"),
        (["--keep", "5y"], "must be a number of messages"),
        (["--max-rooms", "0"], "must be a positive integer"),
    ],
)
def test_an_invalid_setting_is_a_usage_error(flags: list[str], why: str) -> None:
    result = run_server(*flags)
    assert result.returncode == 2
    assert why in result.stderr
    assert "Traceback" not in result.stderr


def test_an_unusable_file_prints_one_line_and_is_not_changed(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.db"
    with ServerScript("--engine", f"sqlite:{damaged}") as server, Json(server.url) as client:
        client.event("welcome")
        for _ in range(5):
            client.ask(type="say", text="x" * 3000)
            client.event("message")
        # A clean stop: a remaining write-ahead log would repair the file.
        server.signal(signal.SIGTERM)
        assert server.exit_code() == 0
    data = bytearray(damaged.read_bytes())
    data[4096:12288] = bytes(8192)
    damaged.write_bytes(data)
    strange = tmp_path / "strange.db"
    strange.write_text("This is a letter to a friend. " * 300)
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as database:
        database.execute("CREATE TABLE mine (x)")
    database.close()
    hollow = tmp_path / "hollow.db"
    with sqlite3.connect(hollow) as database:
        database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        database.execute(f"PRAGMA user_version = {VERSION}")
        database.execute("CREATE TABLE rooms (x)")
    database.close()
    for path, why in [
        (hollow, "a table is missing"),
        (damaged, "damaged|malformed"),
        (strange, "not a database"),
        (other, "belongs to another program"),
        (tmp_path, "it is a directory"),
        (tmp_path / "nowhere" / "chat.db", "does not exist"),
    ]:
        before = path.read_bytes() if path.is_file() else None
        result = run_server("--engine", f"sqlite:{path}")
        assert result.returncode == 1
        assert len(result.stderr.splitlines()) == 1
        assert str(path) in result.stderr
        assert any(word in result.stderr for word in why.split("|")), result.stderr
        # It did not log that it listens, either.
        assert result.stdout == ""
        if before is not None:
            assert path.read_bytes() == before


def test_a_second_server_on_the_same_file_is_refused(tmp_path: Path) -> None:
    flags = ["--engine", f"sqlite:{tmp_path / 'chat.db'}"]
    with ServerScript(*flags) as server:
        result = run_server(*flags)
        assert result.returncode == 1
        assert result.stderr == f"cannot use {tmp_path / 'chat.db'}: another server uses it\n"
        # A killed server leaves no lock behind.
        server.signal(signal.SIGKILL)
        server.exit_code()
    with ServerScript(*flags):
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="a full disk is made with prlimit")
def test_a_full_disk_refuses_messages_and_the_chat_continues(tmp_path: Path) -> None:
    flags = ["--engine", f"sqlite:{tmp_path / 'chat.db'}", "--rate", "0", "--no-notices"]
    with (
        ServerScript(*flags) as server,
        Json(f"{server.url}?nick=ann") as ann,
        Plain(f"{server.url}?nick=bob") as bob,
    ):
        pid = server.process.pid
        bob.hear()
        ann.event("welcome")
        ann.ask(type="say", text="before", nonce="n0")
        assert ann.event("message")["offset"] == 1
        assert bob.hear() == "ann: before"
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        # No file of the server can grow beyond this size.
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (4096, hard))
        for number in range(3):
            ann.ask(type="say", text="x" * 50_000, nonce=f"n{number}-full")
            error = ann.event("error")
            assert error["code"] == "unavailable"
            assert error["nonce"] == f"n{number}-full"
            assert error["command"] == "say"
            assert str(tmp_path) not in error["text"]
        bob.send("mine, too")
        assert bob.hear().startswith("-> Your message was not stored")
        # Requests that need no disk still work.
        ann.ask(type="private", to="bob", text="the disk is full")
        assert bob.hear() == "[PM from ann] the disk is full"
        bob.send("/names", "/history 5")
        assert bob.hear() == "-> 2 connected: ann, bob"
        assert bob.hear().endswith("ann: before")
        with Plain(f"{server.url}?nick=carl") as carl:
            carl.hear()
            carl.send("/names")
            assert carl.hear() == "-> 3 connected: ann, bob, carl"
        ann.event("private")
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))
        ann.ask(type="say", text="again", nonce="n0-full")
        message = ann.event("message")
        # The refused messages are not stored, and there is no hole.
        assert (message["offset"], message["text"]) == (2, "again")
        assert bob.hear() == "ann: again"
        # The operator is told once of the failure and once of its end.
        server.wait_for_line("cannot write to .*", errors=True)
        server.wait_for_line("can write to .* again", errors=True)
        assert len(server.errors) == 2, server.errors


@pytest.mark.parametrize("engine", ["memory:", "sqlite:"])
def test_a_stop_interrupts_searches_and_waits_for_locks(engine: str, tmp_path: Path) -> None:
    database = tmp_path / "chat.db"
    name = engine if engine == "memory:" else f"sqlite:{database}"
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(ServerScript("--engine", name, "--rate", "0"))
        people = [
            stack.enter_context(Json(f"{server.url}room{number}?nick=n{number}"))
            for number in range(12)
        ]
        for person in people:
            person.event("welcome")
            for _ in range(100):
                person.ask(type="say", text="word " * 2000)
            for _ in range(100):
                person.event("message")
        if engine == "sqlite:":
            other = stack.enter_context(contextlib.closing(sqlite3.connect(database)))
            other.execute("BEGIN IMMEDIATE")
        for person in people:
            for _ in range(10):
                person.ask(type="search", words="w wo wor word zzz")
            person.ask(type="say", text="x")
        begin = time.monotonic()
        server.signal(signal.SIGTERM)
        assert [person.hear_end() for person in people] == [1001] * 12
        assert server.exit_code() == 0
        assert time.monotonic() - begin < 10
        assert not any("has not returned" in line for line in server.errors)
