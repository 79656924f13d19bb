"""Export and import: the log of one engine becomes that of another."""

from __future__ import annotations

import json
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from syncchat import Client, Gap, Retention
from syncchat.chat import events
from syncchat.chat.events import Message
from syncchat.engine import Draft, Engine, Position, Record, open_engine
from tests.peer import PATIENCE, free_port, wait_for
from tests.people import Json
from tests.processes import ROOT, SERVER, Script, ServerScript, environment, run
from tests.redis_server import RedisProcess


@contextmanager
def opened(name: str) -> Iterator[Engine]:
    with closing(open_engine(name, Retention(), codec=events.LIVE_CODEC)) as engine:
        yield engine


def fill(name: str, rooms: int = 3, messages: int = 1200) -> None:
    """Rooms with texts of every kind, with and without nonces."""
    with opened(name) as engine:
        for room in range(rooms):
            drafts = [
                Draft(
                    "ann",
                    f'{room}.{number} \u00fc \U0001f600 "\\ \t',
                    "action" if number % 7 == 0 else "message",
                    f"n{number}" if number % 2 else None,
                )
                for number in range(messages)
            ]
            for at in range(0, messages, 100):
                engine.append(f"room{room}", drafts[at : at + 100])
        engine.records.write([Record("topic", "room1", b"\xff"), Record("ban", "\0bob", b"")])


def export(name: str, file: Path | str, **changes: str) -> None:
    result = run([*SERVER, "export", str(file), "--engine", name], **changes)
    assert result.returncode == 0, result.stderr


def import_(name: str, file: Path | str, *flags: str) -> None:
    result = run([*SERVER, "import", str(file), "--engine", name, *flags])
    assert result.returncode == 0, result.stderr


def failing(command: str, name: str, file: Path | str, *flags: str) -> str:
    """The one line with which a command fails with exit code 1."""
    result = run([*SERVER, command, str(file), "--engine", name, *flags])
    assert (result.returncode, result.stdout) == (1, ""), result
    (line,) = result.stderr.splitlines()
    return line


def records(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_round_trip_is_equal_byte_for_byte(tmp_path: Path) -> None:
    first, second, third = (tmp_path / f"{name}.jsonl" for name in "abc")
    fill(f"sqlite:{tmp_path / 'a.db'}")
    with RedisProcess() as redis:
        export(f"sqlite:{tmp_path / 'a.db'}", first)
        import_(redis.url, first)
        export(redis.url, second)
        import_(f"sqlite:{tmp_path / 'b.db'}", second)
        export(f"sqlite:{tmp_path / 'b.db'}", third)
        assert first.read_bytes() == second.read_bytes() == third.read_bytes()
        # The messages and nonces, too, as the engines themselves tell them.
        names = [f"sqlite:{tmp_path / 'a.db'}", redis.url, f"sqlite:{tmp_path / 'b.db'}"]
        told = []
        for name in names:
            with opened(name) as engine:
                position = engine.follow("room1")
                tail = engine.read_after("room1", Position(position.epoch, 1190), 100)
                (again,) = engine.append("room1", [Draft("ann", '1.3 ü 😀 "\\ \t', nonce="n3")])
                found = engine.search("room2", "2.77", 10)
                kept = engine.records.all()
                told.append((position, tail, again, found, engine.rooms(), kept))
        assert told[0] == told[1] == told[2]
        assert told[0][2].offset == 4
        assert not told[0][2].new
        assert len(told[0][5]) == 2
    lines = records(first)
    assert lines[0] == {"type": "header", "format": "syncchat-log", "version": 2}
    assert lines[-1] == {"type": "end", "rooms": 3, "messages": 3600}
    assert stat.S_IMODE(first.stat().st_mode) == 0o600


@pytest.mark.slow
def test_a_client_that_resumes_over_the_move_misses_and_repeats_nothing(tmp_path: Path) -> None:
    old, file = f"sqlite:{tmp_path / 'chat.db'}", tmp_path / "log"
    port = free_port()
    flags = ["--port", str(port), "--rate", "0", "--engine"]
    url = f"ws://127.0.0.1:{port}/ops"
    heard: list[Message] = []
    with RedisProcess() as redis, ExitStack() as stack:
        server = stack.enter_context(Script([*SERVER, *flags, old]))
        server.wait_for_line("listening on port .*")
        ann = stack.enter_context(Client(url, nick="ann").connect())

        def hear(last: int) -> None:
            while not heard or heard[-1].offset < last:
                event = ann.receive(2 * PATIENCE)
                assert not isinstance(event, Gap)
                if isinstance(event, Message):
                    heard.append(event)

        for number in range(20):
            ann.say(str(number))
        hear(20)
        server.signal(signal.SIGTERM)
        assert server.exit_code() == 0
        # Said while nobody listens: sent again, with its nonce, to the new server.
        ann.say("between")
        export(old, file)
        import_(redis.url, file)
        with (
            ServerScript("--engine", redis.url, "--rate", "0") as other,
            Json(f"{other.url}ops?nick=bob") as bob,
        ):
            # It is the same log: what bob says follows.
            assert bob.event("welcome")["offset"] == 20
            bob.ask(type="say", text="meanwhile")
            bob.find("message")
            with Script([*SERVER, *flags, redis.url]) as server:
                server.wait_for_line("listening on port .*")
                hear(22)
                assert [m.offset for m in heard] == list(range(1, 23))
                assert [m.text for m in heard] == [*map(str, range(20)), "meanwhile", "between"]


@pytest.mark.slow
def test_an_interrupted_import_can_be_repeated(tmp_path: Path) -> None:
    source, file = f"sqlite:{tmp_path / 'a.db'}", tmp_path / "log"
    fill(source)
    export(source, file)
    whole = file.read_bytes().splitlines(keepends=True)
    part = tmp_path / "part"
    with RedisProcess() as redis:
        for name in (redis.url, f"sqlite:{tmp_path / 'b.db'}"):
            for lines in (700, 1700, 2500):
                part.write_bytes(b"".join(whole[:lines]))
                assert failing("import", name, part).endswith("its end is missing")
                # In the middle of a line.
                part.write_bytes(b"".join(whole[:lines])[:-5])
                assert f"{part}: line {lines}: " in failing("import", name, part)
            import_(name, file)
            # And once more: there is nothing to do.
            import_(name, file)
            again = tmp_path / "again"
            export(name, again)
            assert again.read_bytes() == file.read_bytes()


def test_a_longer_export_continues_a_shorter_one(tmp_path: Path) -> None:
    source, file = f"sqlite:{tmp_path / 'a.db'}", tmp_path / "log"
    fill(source, rooms=1, messages=10)
    export(source, file)
    with RedisProcess() as redis:
        import_(redis.url, file)
        with opened(source) as engine:
            engine.append("room0", [Draft("bob", "more")])
            engine.append("other", [Draft("bob", "more")])
        export(source, file)
        import_(redis.url, file)
        with opened(redis.url) as engine:
            assert engine.rooms() == ["other", "room0"]
            assert engine.follow("room0").offset == 11


def test_an_export_whose_first_messages_are_dropped_continues_a_whole_log(tmp_path: Path) -> None:
    source, file = f"sqlite:{tmp_path / 'a.db'}", tmp_path / "log"
    fill(source, rooms=1, messages=10)
    export(source, file)
    with RedisProcess() as redis:
        for name in (redis.url, f"sqlite:{tmp_path / 'b.db'}"):
            import_(name, file)
    with closing(open_engine(source, Retention(messages=6))) as engine:
        engine.append("room0", [Draft("bob", "more"), Draft("bob", "still more")])
    export(source, file)
    assert next(each["offset"] for each in records(file) if each["type"] == "message") == 7
    import_(f"sqlite:{tmp_path / 'b.db'}", file)
    with opened(f"sqlite:{tmp_path / 'b.db'}") as engine:
        page = engine.read_before("room0", None, 100)
        assert [m.offset for m in page.messages] == list(range(1, 13))
    # But there must be no hole.
    with closing(open_engine(source, Retention(messages=6))) as engine:
        engine.append("room0", [Draft("bob", str(number)) for number in range(10)])
    export(source, file)
    refused = "the room room0 has messages that are not those of the file"
    assert failing("import", f"sqlite:{tmp_path / 'b.db'}", file) == refused


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_a_room_with_other_messages_is_not_touched(tmp_path: Path, kind: str) -> None:
    source, file = f"sqlite:{tmp_path / 'a.db'}", tmp_path / "log"
    fill(source, rooms=2, messages=10)
    export(source, file)
    with RedisProcess() as redis:
        name = redis.url if kind == "redis" else f"sqlite:{tmp_path / 'b.db'}"
        with opened(name) as engine:
            engine.append("room1", [Draft("eve", "mine")])
        refused = "the room room1 has messages that are not those of the file"
        assert failing("import", name, file) == refused
        with opened(name) as engine:
            (message,) = engine.read_before("room1", None, 10).messages
            assert message.text == "mine"
        # The same log, but it has gone on differently.
        other = redis.url if kind == "redis" else f"sqlite:{tmp_path / 'c.db'}"
        if kind == "redis":
            redis.ask("FLUSHALL")
        import_(other, file)
        with opened(other) as engine:
            engine.append("room1", [Draft("eve", "mine")])
        with opened(source) as engine:
            engine.append("room1", [Draft("ann", "yours")])
        assert failing("import", other, file) == refused
        export(source, file)
        assert failing("import", other, file) == refused


def test_what_exceeds_the_retention_is_left_out(tmp_path: Path) -> None:
    source, file = f"sqlite:{tmp_path / 'a.db'}", tmp_path / "log"
    fill(source, rooms=1, messages=1200)
    export(source, file)
    with RedisProcess() as redis:
        import_(redis.url, file, "--keep", "100")
        with opened(redis.url) as engine:
            page = engine.read_before("room0", None, 1000)
            assert [m.offset for m in page.messages] == list(range(1101, 1201))
            # A nonce is known without its message.
            (answer,) = engine.append("room0", [Draft("ann", '0.3 ü 😀 "\\ \t', nonce="n3")])
            assert (answer.offset, answer.new) == (4, False)
            epoch = engine.follow("room0").epoch
            assert not engine.read_after("room0", Position(epoch, 5), 10).complete
            assert engine.read_after("room0", Position(epoch, 1150), 10).complete
    import_(f"sqlite:{tmp_path / 'b.db'}", file, "--keep", "30d")
    other = tmp_path / "other"
    export(f"sqlite:{tmp_path / 'b.db'}", other)
    assert other.read_bytes() == file.read_bytes()


BROKEN = [
    ("", "the file is not whole"),
    ("hello\n", "line 1: this is not a file of syncchat-server export"),
    ('{"type":"header","format":"syncchat-log","version":3}\n', "later version"),
    ("HEADER{}\n", "line 2: "),
    ("HEADER\xff\n", "line 2: "),
    ('HEADER{"type":"room","name":"a b","epoch":"e","last":1}\n', "line 2: "),
    ('HEADER{"type":"room","name":"a","epoch":"e x","last":1}\n', "line 2: "),
    ('HEADER{"type":"room","name":"a","epoch":"e","last":0}\n', "line 2: "),
    ("HEADERMESSAGE2", "line 2: a message without a room before it"),
    ("HEADERROOMMESSAGE2MESSAGE2", "line 4: a message has the offset 2"),
    ("HEADERROOMMESSAGE9", "line 3: a message has the offset 9"),
    ("HEADERROOMMESSAGE2END", "line 4: the last messages of a are missing"),
    ("HEADERROOMMESSAGE3MESSAGE4", "line 4: a message has the offset 4"),
    ("HEADERROOMROOM", "is there twice"),
    ("HEADERROOMMESSAGE3END", "line 4: there are other numbers of rooms and messages"),
    ('HEADERROOM{"type":"nonce","fingerprint":"x","offset":4}\n', "line 3: a nonce has no message"),
    ('HEADER{"type":"end","rooms":0,"messages":0}\n{}\n', "line 3: there is more behind the end"),
    ("HEADERHEADER", "line 2: a second header"),
]


@pytest.mark.parametrize(("text", "complaint"), BROKEN)
def test_a_broken_file_is_refused_with_the_number_of_its_line(
    tmp_path: Path, text: str, complaint: str
) -> None:
    for word, line in [
        ("HEADER", '{"type":"header","format":"syncchat-log","version":1}\n'),
        ("ROOM", '{"type":"room","name":"a","epoch":"e1","last":3}\n'),
        ("END", '{"type":"end","rooms":1,"messages":7}\n'),
    ]:
        text = text.replace(word, line)
    for offset in (2, 3, 4, 9):
        message = {"type": "message", "offset": offset, "time": 1.7e9, "nick": "ann", "text": "x"}
        line = json.dumps({**message, "kind": "message", "nonce": None})
        text = text.replace(f"MESSAGE{offset}", f"{line}\n")
    file = tmp_path / "log"
    file.write_bytes(text.encode("latin-1"))
    line = failing("import", f"sqlite:{tmp_path / 'chat.db'}", file)
    assert line.startswith(f"{file}: line ")
    assert complaint in line


@pytest.mark.slow
def test_engines_that_are_in_use_or_cannot_be_used_are_refused(tmp_path: Path) -> None:
    path, file = tmp_path / "chat.db", tmp_path / "log"
    with ServerScript("--engine", f"sqlite:{path}"):
        refused = f"cannot use {path}: another server uses it"
        assert failing("export", f"sqlite:{path}", file) == refused
        export_ = run([*SERVER, "import", str(file), "--engine", f"sqlite:{path}"])
        assert (export_.returncode, export_.stderr) == (1, f"{refused}\n")
    missing = tmp_path / "missing.db"
    assert failing("export", f"sqlite:{missing}", file).endswith("it does not exist")
    assert not missing.exists()
    assert not file.exists()
    assert failing("import", f"sqlite:{path}", file) == f"{file}: no such file or directory"
    assert failing("export", f"sqlite:{path}", tmp_path / "no" / "log").endswith(
        "no such file or directory"
    )
    unreachable = "redis://user:secret@127.0.0.1:1/0"
    line = failing("export", unreachable, file)
    assert line.startswith("cannot use redis://127.0.0.1:1/0: ")
    fill(f"sqlite:{path}", rooms=1, messages=3)
    export(f"sqlite:{path}", file)
    with RedisProcess() as redis, ServerScript("--engine", redis.url):
        assert failing("import", redis.url, file) == "servers run on this Redis: stop them first"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["export"], "FILE"),
        (["export", "x"], "memory: has no messages"),
        (["import", "x", "--engine", "nonsense"], "is not an engine"),
        (["import", "x", "--engine", "sqlite:x", "--keep", "much"], "--keep"),
        (["export", "x", "--keep", "1"], "--keep"),
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str], complaint: str) -> None:
    result = run([*SERVER, *arguments])
    assert (result.returncode, result.stdout) == (2, "")
    assert complaint in result.stderr.splitlines()[-1]


def test_the_standard_streams_can_be_the_file(tmp_path: Path) -> None:
    fill(f"sqlite:{tmp_path / 'a.db'}", rooms=1, messages=10)
    command = [sys.executable, "-m", "syncchat", "server"]
    with RedisProcess() as redis:
        exporting = subprocess.run(
            [*command, "export", "-"],
            capture_output=True,
            check=True,
            cwd=ROOT,
            env=environment(SYNCCHAT_ENGINE=f"sqlite:{tmp_path / 'a.db'}"),
        )
        assert exporting.stderr == b"exported 10 messages of 1 rooms\n"
        importing = subprocess.run(
            [*command, "import", "-"],
            input=exporting.stdout,
            capture_output=True,
            check=True,
            cwd=ROOT,
            env=environment(SYNCCHAT_ENGINE=redis.url),
        )
        assert (importing.stdout, importing.stderr) == (b"", b"imported 10 messages of 1 rooms\n")
        file = tmp_path / "log"
        export(redis.url, file)
        assert file.read_bytes() == exporting.stdout


def test_an_export_replaces_the_file_only_when_it_is_complete(tmp_path: Path) -> None:
    fill(f"sqlite:{tmp_path / 'a.db'}", rooms=1, messages=1200)
    file, link = tmp_path / "log", tmp_path / "link"
    file.write_text("the backup of yesterday")
    link.symlink_to(file)
    with RedisProcess() as redis:
        # A log with a hole, as after an accident.
        redis.ask("HSET", "syncchat:{a}:meta", "epoch", "e", "last", "3")
        for offset in (1, 3):
            entry = '[1.5,"ann","x","message",null]'
            redis.ask("XADD", "syncchat:{a}:log", f"{offset}-0", "d", entry)
        refused = "messages of a were dropped meanwhile: export again"
        assert failing("export", redis.url, file) == refused
    assert file.read_text() == "the backup of yesterday"
    export(f"sqlite:{tmp_path / 'a.db'}", link)
    assert link.is_symlink()
    assert records(file)[-1] == {"type": "end", "rooms": 1, "messages": 1200}
    assert sorted(each.name for each in tmp_path.iterdir() if "part" in each.name) == []
    # A device is not replaced.
    export(f"sqlite:{tmp_path / 'a.db'}", "/dev/null")
    assert Path("/dev/null").is_char_device()


def test_a_reader_that_leaves_and_an_interruption_are_told_in_one_line(tmp_path: Path) -> None:
    fill(f"sqlite:{tmp_path / 'a.db'}", rooms=1, messages=1200)
    command = [*SERVER, "export", "-", "--engine", f"sqlite:{tmp_path / 'a.db'}"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b"-: broken pipe\n"
    assert process.returncode == 1
    with Script([*SERVER, "import", "-", "--engine", f"sqlite:{tmp_path / 'b.db'}"]) as importing:
        importing.type('{"type":"header","format":"syncchat-log","version":1}\n')
        wait_for((tmp_path / "b.db").exists)
        importing.signal(signal.SIGINT)
        assert importing.exit_code() == 1
        assert importing.errors == ["interrupted"]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_log(tmp_path: Path) -> None:
    """The peak of a process that exports and imports 40 MB, over that of one without messages."""
    path = tmp_path / "a.db"
    with opened(f"sqlite:{path}") as engine:
        engine.append("a", [Draft("ann", "hello")])
    with closing(sqlite3.connect(path)) as database:
        database.executemany(
            "INSERT INTO messages (room, offset, time, nick, text, kind)"
            " VALUES (1, ?, 1.7e9, 'ann', ?, 'message')",
            ((number, f"{number} " + "x" * 1000) for number in range(2, 40_001)),
        )
        database.execute("UPDATE rooms SET last = 40000")
        database.commit()
    program = (
        "import resource, sys; from syncchat.cli import server_main; code = server_main();"
        " print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss); sys.exit(code)"
    )

    def peak(*arguments: str) -> int:
        result = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            capture_output=True,
            check=True,
            cwd=ROOT,
            env={**environment(), "PYTHONPATH": str(ROOT)},
        )
        return int(result.stdout)

    file, empty = tmp_path / "log", tmp_path / "empty"
    with opened(f"sqlite:{tmp_path / 'empty.db'}"):
        pass
    least = peak("export", str(empty), "--engine", f"sqlite:{tmp_path / 'empty.db'}")
    most = peak("export", str(file), "--engine", f"sqlite:{path}")
    assert file.stat().st_size > 40_000_000
    most = max(most, peak("import", str(file), "--engine", f"sqlite:{tmp_path / 'b.db'}"))
    with RedisProcess() as redis:
        most = max(most, peak("import", str(file), "--engine", redis.url))
        most = max(most, peak("export", str(file), "--engine", redis.url))
    assert most - least < 20_000, (most, least)
