"""The client in a pipe: lines in, lines or events out, for as long as there are any."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pexpect
import psutil
import pyte
import pytest

from syncchat import ChatServer, Client
from syncchat.chat.events import BadEvent, Error, Message, Say, decode_from_client, encode
from syncchat.net import WebSocket, serve
from tests.peer import PATIENCE, Peer, wait_for
from tests.processes import CLIENT, SERVER, Script, ServerScript, Terminal, environment, run
from tests.stage import welcome

GREETING = "Welcome to chat! Type a message"


def unread(client: Script) -> int:
    """Bytes of the input that the client has not read."""
    assert client.process.stdin is not None
    size = fcntl.ioctl(client.process.stdin.fileno(), termios.FIONREAD, b"\0" * 4)
    return int.from_bytes(size, sys.byteorder)


def test_a_pipe_sends_every_line_waits_for_the_server_and_exits_0() -> None:
    lines: list[str] = []
    with ChatServer(port=0, log=lines.append, rate=0) as chat:
        url = f"ws://127.0.0.1:{chat.port}/"
        text = "".join(f"line {number}\n" for number in range(500)) + "the last, without its end"
        result = run([*CLIENT, url], text)
        assert result.returncode == 0
        received = [line.partition(": ")[2] for line in lines if line.startswith("Received")]
        assert received == text.split("\n")
        shown = [line.partition(": ")[2] for line in result.stdout.splitlines()]
        assert shown == text.split("\n")
        assert result.stderr == f"Connected to the chat!\n{GREETING}\n"


def test_a_pipe_shows_each_message_at_once() -> None:
    with ServerScript() as server, Script([*CLIENT, server.url]) as client:
        client.wait_for_line(re.escape(GREETING), errors=True)
        client.type("one\n")
        client.wait_for_line(r"127\.0\.0\.1:\d+: one")
        assert not any(">" in line for line in client.lines)
        client.end_input()
        assert client.exit_code() == 0


@pytest.mark.parametrize("subprotocols", [["syncchat.v1"], []], ids=["events", "plain lines"])
def test_a_pipe_keeps_the_indentation_of_continuation_lines(subprotocols: list[str]) -> None:
    """Issue 13, item 6: they are set in once, by the same prefix, before their own blanks."""
    text = "x\n    four\n  two\nnone"

    def handler(websocket: WebSocket) -> None:
        if subprotocols:
            websocket.send(encode(welcome()))
            websocket.send(encode(Message(1, 0.0, "bob", text, "message")))
        else:
            websocket.send(f"bob: {text}")
        websocket.recv()

    with serve(handler, subprotocols=subprotocols) as server:
        with Script([*CLIENT, f"ws://127.0.0.1:{server.port}", "--prefix", "< "]) as client:
            client.wait_for_line("    none")
            assert client.lines[-4:] == ["< bob: x", "        four", "      two", "    none"]


def test_a_pipe_takes_crlf_and_bad_utf8() -> None:
    lines: list[str] = []
    with ChatServer(port=0, log=lines.append) as chat:
        result = subprocess.run(
            [*CLIENT, f"ws://127.0.0.1:{chat.port}/"],
            input=b"dos\r\nlat\xe9in\n",
            capture_output=True,
            timeout=PATIENCE,
            check=False,
            env=environment(),
        )
        assert result.returncode == 0
        received = [line.partition(": ")[2] for line in lines if line.startswith("Received")]
        assert received == ["dos", "lat\ufffdin"]


def test_more_input_than_a_server_takes_at_once_waits_for_it() -> None:
    size = 0

    def slowly(websocket: WebSocket) -> None:
        nonlocal size
        wait_for(lambda: psutil.Process(client.pid).status() == psutil.STATUS_SLEEPING)
        for message in websocket:
            size += len(message)

    # More than the client's backlog limit and all kernel buffers.
    text = ("x" * 60_000 + "\n") * 300
    with (
        serve(slowly) as server,
        subprocess.Popen(
            [*CLIENT, f"ws://127.0.0.1:{server.port}/"],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
            text=True,
        ) as client,
    ):
        _, errors = client.communicate(text, timeout=PATIENCE * 3)
        assert (client.returncode, errors) == (0, "Connected to the chat!\n")
    assert size == 60_000 * 300


def test_a_pipe_whose_reader_has_enough_ends_quietly() -> None:
    with ServerScript() as server:
        with subprocess.Popen(
            [*CLIENT, server.url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
            text=True,
            bufsize=1,
        ) as client:
            assert client.stdin is not None
            assert client.stdout is not None
            assert client.stderr is not None
            client.stdin.write("one\n")
            assert client.stdout.readline().endswith(": one\n")
            client.stdout.close()
            client.stdin.write("one more\n")
            assert client.wait(PATIENCE) == 0
            assert client.stderr.read() == f"Connected to the chat!\n{GREETING}\n"


def test_a_pipe_says_lines_that_begin_with_a_slash() -> None:
    lines: list[str] = []
    with ChatServer(port=0, greeting="") as chat:
        result = run([*CLIENT, f"ws://127.0.0.1:{chat.port}/"], "one\n/quit\n//x\nlast\n")
        assert result.returncode == 0
        lines = [line.partition(": ")[2] for line in result.stdout.splitlines()]
        assert lines == ["one", "/quit", "//x", "last"]


def test_an_output_that_cannot_be_written_is_one_line_and_exit_code_1() -> None:
    with ServerScript() as server, Path("/dev/full").open("w", encoding="utf-8") as full:
        with subprocess.Popen(
            [*CLIENT, server.url],
            stdin=subprocess.PIPE,
            stdout=full,
            stderr=subprocess.PIPE,
            env=environment(),
            text=True,
        ) as client:
            assert client.stdin is not None
            client.stdin.write("hi\n")
            client.stdin.flush()
            assert client.wait(PATIENCE) == 1
            assert client.stderr is not None
            assert client.stderr.read().splitlines()[2:] == [
                "cannot write the output: No space left on device"
            ]


def test_ctrl_c_leaves_a_pipe_with_a_proper_close() -> None:
    codes: list[int | None] = []

    def handler(websocket: WebSocket) -> None:
        websocket.send("hello")
        list(websocket)
        codes.append(websocket.close_code)

    with serve(handler) as server, Script([*CLIENT, f"ws://127.0.0.1:{server.port}"]) as client:
        client.wait_for_line("hello")
        client.signal(signal.SIGINT)
        assert client.exit_code() == 0
        assert client.errors == ["Connected to the chat!"]
        wait_for(lambda: codes)
    assert codes == [1000]


def test_a_server_that_goes_in_the_middle_is_said_and_is_exit_code_1() -> None:
    with (
        serve(lambda websocket: websocket.close(4000, "enough\x1b[2J")) as server,
        Script([*CLIENT, f"ws://127.0.0.1:{server.port}", "--no-reconnect"]) as client,
    ):
        client.wait_for_line(
            re.escape("The server has closed the connection, 4000: enough[2J"),
            errors=True,
        )
        assert client.exit_code() == 1


def test_the_prefix_comes_from_the_environment_too() -> None:
    with ServerScript() as server:
        result = run([*CLIENT, server.url, "--nick", "ann"], "hi\n", SYNCCHAT_PREFIX="| ")
        assert result.stdout == "| ann: hi\n"
        assert result.returncode == 0


def test_a_pipe_whose_reader_has_had_enough_ends_at_once() -> None:
    with ServerScript("--no-notices") as server:
        command = f"seq 3000 | {shlex.join([*CLIENT, server.url])} | head -n 3"
        begin = time.monotonic()
        result = subprocess.run(
            ["bash", "-c", command],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
            env=environment(),
        )
        # At ten messages a second the rest would take minutes.
        assert time.monotonic() - begin < 15
        assert len(result.stdout.splitlines()) == 3
        assert "Traceback" not in result.stderr


def test_the_clients_nick_and_history_are_flags_and_environment() -> None:
    with ServerScript("--no-notices", "--greeting", "") as server:
        first = run([*CLIENT, server.url, "--nick", "ann"], "one\ntwo\n")
        assert (first.stdout, first.returncode) == ("ann: one\nann: two\n", 0)
        second = run([*CLIENT, server.url], "three\n", SYNCCHAT_NICK="bob", SYNCCHAT_HISTORY="1")
        assert (second.stdout, second.returncode) == ("ann: two\nbob: three\n", 0)
    for flags, why in [
        (["--nick", "server"], "The nick server is reserved."),
        (["--nick", "a b"], "A nick is one word"),
        (["--history", "-1"], "'-1' is no whole number"),
    ]:
        result = run([*CLIENT, *flags], "")
        assert result.returncode == 2
        assert why in result.stderr


def test_a_pipe_tells_of_what_is_no_message_on_standard_error() -> None:
    with ServerScript("--no-notices", "--greeting", "") as server:
        with ServerScript("--no-notices", "--greeting", "") as other:
            taken = Peer.client(server.port, "/?nick=ann")
            with taken:
                result = run([*CLIENT, server.url, "--nick", "ann"], "hello\n")
                assert re.fullmatch(r"127\.0\.0\.1:\d+: hello\n", result.stdout)
                assert "-> The nick ann is taken here" in result.stderr
                # What it said has been kept all the same.
                assert result.returncode == 0
            result = run([*CLIENT, f"{other.url}?after=another:5"], "hello\n")
            assert result.stdout.endswith(": hello\n")
            assert "Some messages are missing here" in result.stderr


def test_a_line_that_is_too_long_is_told_and_the_others_are_said() -> None:
    with ServerScript("--no-notices", "--greeting", "") as server:
        result = run([*CLIENT, server.url, "--nick", "ann"], f"one\n{'x' * 70_000}\ntwo\n")
        assert result.stdout == "ann: one\nann: two\n"
        lines = result.stderr.splitlines()
        # By the client, or by the server's word, if that had not come when it was read.
        wanted = r"line 2 was refused: [Ii]t is longer than the 65536 bytes of a message\.?"
        assert re.fullmatch(wanted, lines[1])
        assert result.returncode == 1


def test_only_messages_go_to_standard_output() -> None:
    """Issue 13, item 12: the greeting goes to standard error, once, as notices do."""
    with ExitStack() as stack:
        with ServerScript() as server:
            client = stack.enter_context(Script([*CLIENT, server.url, "--nick", "ann"]))
            client.wait_for_line(re.escape(GREETING), errors=True)
            with Client(server.url, nick="bob") as bob:
                client.wait_for_line(r" \* bob joined.*", errors=True)
                wait_for(lambda: bob.connected)
                bob.say("hello")
                bob.send_line("/msg ann psst")
                client.wait_for_line(re.escape("[PM from bob] psst"))
        client.wait_for_line("-> Trying to come back.", errors=True)
        again = stack.enter_context(Script([*SERVER, "--port", str(server.port)]))
        again.wait_for_line("listening .*")
        client.wait_for_line("Connected to the chat again!", errors=True)
        client.type("there again\n")
        client.wait_for_line("ann: there again")
        client.end_input()
        assert client.exit_code() == 0
        assert client.lines == ["bob: hello", "[PM from bob] psst", "ann: there again"]
        assert client.errors.count(GREETING) == 1


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_a_line_that_is_too_long_is_named_before_and_after_the_limit_is_known(
    flags: list[str],
) -> None:
    """Issue 13, item 12: by its number, and the rest goes out."""
    release = threading.Event()

    def late(websocket: WebSocket) -> None:
        # The first lines are said before this.
        release.wait(PATIENCE)
        websocket.send(encode(welcome()))
        offset = 0
        for text in websocket:
            try:
                said = decode_from_client(str(text))
            except BadEvent as exc:
                # A line, where this took so long that the client has assumed plain lines.
                websocket.send(encode(Error("malformed", str(exc))))
                continue
            assert isinstance(said, Say)
            offset += 1
            websocket.send(encode(Message(offset, 0.0, "ann", said.text, "message", said.nonce)))

    with (
        serve(late, subprotocols=["syncchat.v1"], max_message=1_000_000) as server,
        Script([*CLIENT, *flags, f"ws://127.0.0.1:{server.port}/"]) as client,
    ):
        long = "x" * 70_000
        client.type(f"one\n{long}\nthree\n")
        wait_for(lambda: unread(client) == 0)
        release.set()
        limit = r"t is longer than the 65536 bytes of a message\.?"
        client.wait_for_line(f"line 2 was refused: I{limit}", errors=True)
        client.wait_for_line(".*three.*")
        client.type(f"{long}\n{'y' * 5_000_000}\nsix\n{'z' * 5_000_000}")
        client.end_input()
        assert client.exit_code() == 1
        client.wait_for_line(f"line 4 was refused: i{limit}", errors=True)
        for number in (5, 7):
            told = f"line {number} was refused: it is longer than the 4194304 characters of a line"
            assert told in client.errors
        assert len([line for line in client.errors if "refused" in line]) == 4
        lines = client.lines
        if flags:
            events = [json.loads(line) for line in lines]
            lines = [f"ann: {each['text']}" for each in events if each["type"] == "message"]
        assert lines == ["ann: one", "ann: three", "ann: six"]


# The server's rate limit.


LIMIT = "The server takes 20 messages a second from one client"
LIFT = r"The server's flag --rate 0 lifts the limit\."


def test_a_pipe_tells_what_the_rate_limit_means_and_how_long_is_left() -> None:
    """Issue 13, item 8: once, in one plain line, where standard error is no terminal."""
    with ServerScript("--no-notices", "--rate", "20", "--burst", "5", "--greeting", "") as server:
        for flags in ([], ["--json"]):
            begin = time.monotonic()
            result = run([*CLIENT, *flags, server.url], "".join(f"{n}\n" for n in range(65)))
            assert result.returncode == 0
            assert time.monotonic() - begin > 2
            _, told = result.stderr.splitlines()
            wanted = rf"{LIMIT}: the (\d+) lines left take about (\d+) s\. {LIFT}"
            found = re.fullmatch(wanted, told)
            assert found is not None, told
            assert 20 < int(found[1]) <= 65
            assert 1 <= int(found[2]) <= 3


def test_a_pipe_says_nothing_of_the_limit_for_a_short_input() -> None:
    """Issue 13, item 8: what the server takes at once, and slow input, are not held up."""
    with (
        ServerScript("--no-notices", "--greeting", "") as server,
        ServerScript("--no-notices", "--greeting", "", "--rate", "0") as unlimited,
    ):
        short = run([*CLIENT, server.url], "".join(f"{n}\n" for n in range(20)))
        assert (short.returncode, short.stderr) == (0, "Connected to the chat!\n")
        long = run([*CLIENT, unlimited.url], "".join(f"{n}\n" for n in range(5000)))
        assert (long.returncode, long.stderr) == (0, "Connected to the chat!\n")
        with Script([*CLIENT, server.url]) as client:
            for number in range(30):
                client.type(f"{number}\n")
                client.wait_for_line(f".*: {number}")
            client.end_input()
            assert client.exit_code() == 0
            assert client.errors == ["Connected to the chat!"]


def test_a_pipe_that_does_not_end_tells_the_rate_alone() -> None:
    """Issue 13, item 8: nobody knows how long the input is going to be."""
    with ServerScript("--no-notices", "--rate", "20", "--greeting", "") as server:
        with Script([*CLIENT, server.url]) as client:
            client.type("".join(f"{number}\n" for number in range(100)))
            client.wait_for_line(f"{LIMIT}; more input than that waits\\. {LIFT}", errors=True)
            client.end_input()
            assert client.exit_code() == 0
            assert len(client.errors) == 2


def test_the_lines_of_a_file_are_counted(tmp_path: Path) -> None:
    """Issue 13, item 8: also those that are still to be read."""
    path = tmp_path / "lines"
    path.write_text("".join(f"{number}\n" for number in range(20_000)) + "the last")
    with ServerScript("--no-notices", "--rate", "20", "--greeting", "") as server:
        command = f"exec {shlex.join([*CLIENT, server.url])} <{shlex.quote(str(path))}"
        with Script(["sh", "-c", command]) as client:
            line = client.wait_for_line(f"{LIMIT}: .*", errors=True)
            client.signal(signal.SIGTERM)
            client.exit_code()
    found = re.fullmatch(rf"{LIMIT}: the (\d+) lines left take about 17 min\. {LIFT}", line)
    assert found is not None, line
    assert 19_900 < int(found[1]) <= 20_001


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_a_terminal_shows_the_progress_and_takes_it_away(flags: list[str]) -> None:
    """Issue 13, item 8: on standard error, below what is told there."""
    with ServerScript("--no-notices", "--rate", "20", "--burst", "5", "--greeting", "") as server:
        command = shlex.join([*CLIENT, *flags, server.url])
        child = pexpect.spawn(
            "sh",
            ["-c", f"seq 100 | {command} >/dev/null"],
            env=environment(),
            timeout=PATIENCE * 2,
            encoding="utf-8",
            dimensions=(24, 80),
        )
        screen = pyte.Screen(80, 24)
        stream = pyte.Stream(screen)
        states = []
        while True:
            try:
                stream.feed(child.read_nonblocking(4096, timeout=PATIENCE))
            except pexpect.EOF:
                break
            states.append(screen.display[screen.cursor.y].rstrip())
        child.close()
        assert child.exitstatus == 0
    shown = [line.rstrip() for line in screen.display if line.strip()]
    assert shown[0] == "Connected to the chat!"
    assert LIMIT in shown[1]
    progress = [
        re.fullmatch(r"(\d+) lines sent, (\d+) of (\d+) acknowledged, about (\d+) s to go", state)
        for state in states
        if "to go" in state
    ]
    if flags:
        assert not progress
        return
    assert len(progress) > 5
    acknowledged = [int(each[2]) for each in progress if each is not None]
    assert len(acknowledged) == len(progress)
    assert acknowledged == sorted(acknowledged)
    assert progress[-1] is not None
    assert progress[-1][1] == progress[-1][3] == "100"
    # Nothing of it stays.
    assert not any("to go" in line for line in screen.display)


def test_progress_and_messages_share_a_terminal() -> None:
    """Issue 13, item 8: no line of the one stands in a line of the other."""
    with ServerScript("--no-notices", "--rate", "20", "--burst", "5", "--greeting", "") as server:
        command = shlex.join([*CLIENT, "--nick", "ann", server.url])
        child = pexpect.spawn(
            "sh",
            ["-c", f"seq 60 | {command}"],
            env=environment(),
            timeout=PATIENCE * 2,
            encoding="utf-8",
            dimensions=(100, 80),
        )
        screen = pyte.Screen(80, 100)
        pyte.Stream(screen).feed(child.read())
        child.close()
        assert child.exitstatus == 0
    shown = [line.rstrip() for line in screen.display if line.strip()]
    said = [line for line in shown if line.startswith("ann: ")]
    assert said == [f"ann: {number}" for number in range(1, 61)]
    # The rest is what standard error has to tell, which takes two rows.
    assert len(shown) == 60 + 1 + 2


# Only listening.


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_client_that_only_listens_goes_on_until_a_signal_ends_it(
    number: signal.Signals, tmp_path: Path
) -> None:
    """Issue 13, item 9: with no input at all, as under systemd, and over a break."""
    output = tmp_path / "output"
    with ExitStack() as stack:
        first = stack.enter_context(ServerScript("--no-notices", "--greeting", ""))
        file = stack.enter_context(output.open("w"))
        client = stack.enter_context(
            subprocess.Popen(
                [*CLIENT, "--listen", first.url],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.PIPE,
                env=environment(),
                text=True,
            )
        )
        first.wait_for_line("New connection .*")
        with Client(first.url, nick="bob") as bob:
            say_until(bob, "one", output)
        # Longer than what a pipe without input takes to end.
        assert client.poll() is None
        first.signal(signal.SIGKILL)
        first.exit_code()
        second = stack.enter_context(
            Script([*SERVER, "--port", str(first.port), "--no-notices", "--greeting", ""])
        )
        second.wait_for_line("New connection .*")
        with Client(first.url, nick="bob") as bob:
            say_until(bob, "two", output)
        client.send_signal(number)
        _, errors = client.communicate(timeout=PATIENCE)
        assert client.returncode == 0
        second.wait_for_line("Client .* disconnected", times=2)
        assert "Connected to the chat again!" in errors.splitlines()


def say_until(client: Client, text: str, output: Path) -> None:
    """Say it until it is heard: whoever listens may not be in the room at first."""

    def heard() -> bool:
        client.say(text)
        client.flush(PATIENCE)
        return f"bob: {text}\n" in output.read_text()

    wait_for(heard)


def test_a_client_that_only_listens_needs_no_standard_input() -> None:
    """Issue 13, item 9: it may be closed, or a terminal, or full of text."""
    with ServerScript("--no-notices", "--greeting", "") as server:
        for source, setting in (("<&-", {}), ("</dev/zero", {"SYNCCHAT_LISTEN": "yes"})):
            flags = [] if setting else ["--listen"]
            command = f"exec {shlex.join([*CLIENT, *flags, '--json', server.url])} {source}"
            with Script(["sh", "-c", command], **setting) as client:
                client.wait_for_line(".*welcome.*")
                client.signal(signal.SIGTERM)
                assert client.exit_code() == 0
                assert client.errors == ["Connected to the chat!"]
        with Terminal("--listen", server.url) as screen:
            screen.wait_for_line("Connected to the chat!")
            with Client(server.url, nick="bob") as bob:
                bob.say("hello")
                bob.flush(PATIENCE)
            screen.type("typed\r")
            screen.signal(signal.SIGINT)
            assert screen.exit_code() == 0
            assert not any(line.startswith(">") for line in screen.lines())


def test_a_client_that_only_listens_ends_with_the_conversation() -> None:
    """Issue 13, item 9: and begins only where there is a server, as a pipe does."""
    with serve(lambda websocket: websocket.close(1000)) as server:
        result = run([*CLIENT, "--listen", f"ws://127.0.0.1:{server.port}/"])
        assert result.returncode == 0
    with serve(lambda websocket: websocket.close(1008, "out")) as server:
        result = run([*CLIENT, "--listen", f"ws://127.0.0.1:{server.port}/"])
        assert result.returncode == 1
        assert "1008" in result.stderr
    result = run([*CLIENT, "--listen", f"ws://127.0.0.1:{server.port}/"])
    assert result.returncode == 1
    assert "connection refused" in result.stderr


def test_nohup_keeps_a_client_that_only_listens() -> None:
    """Issue 13, item 9: SIGHUP is no reason to end there."""
    with ServerScript("--no-notices", "--greeting", "") as server:
        command = ["nohup", *CLIENT, "--listen", "--json", server.url]
        with Script(command) as client:
            client.wait_for_line(".*welcome.*")
            client.signal(signal.SIGHUP)
            with Client(server.url, nick="bob") as bob:
                bob.say("still there?")
                client.wait_for_line(".*still there.*")
            client.signal(signal.SIGTERM)
            assert client.exit_code() == 0


# Over breaks.


def test_a_pipe_that_is_fed_for_days_survives_restarts_of_its_server(tmp_path: Path) -> None:
    engine = ["--engine", f"sqlite:{tmp_path / 'chat.db'}", "--no-notices", "--rate", "0"]
    with ExitStack() as stack:
        log = tmp_path / "app.log"
        log.write_text("")
        first = stack.enter_context(ServerScript(*engine))
        server: Script = first
        command = f"exec tail -n +1 -f {shlex.quote(str(log))} --pid=$PPID"
        tail = stack.enter_context(
            subprocess.Popen(["sh", "-c", command], stdout=subprocess.PIPE, text=True)
        )
        client = stack.enter_context(
            subprocess.Popen(
                [*CLIENT, "--nick", "log", f"127.0.0.1:{first.port}/ops"],
                stdin=tail.stdout,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment(),
                text=True,
            )
        )
        first.wait_for_line("New connection .*")
        try:
            with log.open("a") as file:
                for number in range(300):
                    if number in (100, 200):
                        server.signal(signal.SIGKILL)
                        server.exit_code()
                    print(f"line {number}", file=file, flush=True)
                    if number in (110, 210):
                        server = stack.enter_context(
                            Script([*SERVER, "--port", str(first.port), *engine])
                        )
                        server.wait_for_line("listening .*")
            assert client.stdout is not None
            heard = []
            for line in client.stdout:
                heard.append(line.rstrip("\n"))
                if heard[-1] == "log: line 299":
                    break
        finally:
            tail.kill()
            client.terminate()
        assert client.wait(PATIENCE) == 0
        assert [line for line in heard if line.startswith("log: ")] == [
            f"log: line {number}" for number in range(300)
        ]


def test_a_break_is_told_on_standard_error() -> None:
    with ExitStack() as stack:
        with ServerScript("--no-notices") as server:
            client = stack.enter_context(Script([*CLIENT, server.url]))
            client.wait_for_line(re.escape(GREETING), errors=True)
        client.wait_for_line("The server is gone: .*", errors=True)
        client.wait_for_line("-> Trying to come back.", errors=True)
        client.type("said meanwhile\n")
        again = stack.enter_context(Script([*SERVER, "--port", str(server.port)]))
        again.wait_for_line("Received from .*: said meanwhile")
        client.wait_for_line("Connected to the chat again!", errors=True)
        client.end_input()
        assert client.exit_code() == 0
        assert "Traceback" not in "\n".join(client.errors)


def test_what_could_not_be_delivered_is_told_when_one_is_told_to_end() -> None:
    with ExitStack() as stack:
        with ServerScript() as server:
            client = stack.enter_context(Script([*CLIENT, server.url]))
            client.wait_for_line(re.escape(GREETING), errors=True)
        client.wait_for_line("-> Trying to come back.", errors=True)
        client.type("one\ntwo\n")
        wait_for(lambda: unread(client) == 0)
        client.end_input()
        # Its input has ended, and yet it waits for the server.
        wait_for(lambda: psutil.Process(client.process.pid).status() == psutil.STATUS_SLEEPING)
        client.signal(signal.SIGTERM)
        assert client.exit_code() == 1
        assert client.errors[-1] == "Not delivered: 2 of your messages."


def test_a_server_of_plain_lines_gets_the_rest_when_it_is_back() -> None:
    heard: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]

    def handler(websocket: WebSocket) -> None:
        heard.extend(websocket)

    with ExitStack() as stack:
        with serve(handler, port=port):
            client = stack.enter_context(Script([*CLIENT, f"127.0.0.1:{port}"]))
            client.type("one\n")
            client.wait_for_line("Connected to the chat!", errors=True)
        client.wait_for_line("-> Trying to come back.", errors=True)
        client.type("two\n")
        with serve(handler, port=port):
            client.end_input()
            assert client.exit_code() == 0
        assert heard == ["one", "two"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_a_pipe_in_order(number: signal.Signals) -> None:
    with ServerScript("--no-notices") as server, Script([*CLIENT, server.url]) as client:
        client.wait_for_line(re.escape(GREETING), errors=True)
        client.type("last words\n")
        server.wait_for_line("Received from .*: last words")
        client.signal(number)
        assert client.exit_code() == 0
        server.wait_for_line("Client .* disconnected")
        assert client.errors == ["Connected to the chat!", GREETING]


def test_an_error_output_that_nobody_reads_does_no_harm() -> None:
    with ServerScript("--no-notices") as server:
        reading, writing = os.pipe()
        os.close(reading)
        with subprocess.Popen(
            [*CLIENT, server.url, "--nick", "ann"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=writing,
            env=environment(),
            text=True,
        ) as client:
            os.close(writing)
            output, _ = client.communicate("x" * 70_000 + "\nhello\n", timeout=PATIENCE)
        assert output == "ann: hello\n"
        assert client.returncode == 1


# Events.


def test_json_is_an_event_a_line() -> None:
    with ExitStack() as stack:
        with ServerScript("--no-notices", "--greeting", "Hi") as server:
            client = stack.enter_context(Script([*CLIENT, "--json", "--nick", "ann", server.url]))
            client.wait_for_line(".*welcome.*")
            client.type("hello \x7f\u202e\nGrüße\n")
            client.wait_for_line(".*Gr.*")
            with Client(server.url, nick="bob") as bob:
                bob.say("and you?")
                client.wait_for_line(".*and you.*")
        client.wait_for_line(".*disconnected.*")
        again = stack.enter_context(Script([*SERVER, "--port", str(server.port), "--no-notices"]))
        again.wait_for_line("listening .*")
        client.wait_for_line(".*reconnected.*")
        client.end_input()
        assert client.exit_code() == 0
        events = [json.loads(line) for line in client.lines]
        kinds = [event["type"] for event in events]
        assert kinds[:6] == [
            "welcome", "message", "message", "message", "disconnected", "reconnected",
        ]  # fmt: skip
        assert [event["text"] for event in events[1:4]] == ["hello ", "Grüße", "and you?"]
        assert events[0]["greeting"] == "Hi"
        assert events[4]["code"] == 1006
        assert all(line.isascii() and line.isprintable() for line in client.lines)
        assert client.errors == ["Connected to the chat!"]


def test_json_of_a_server_of_plain_lines() -> None:
    def handler(websocket: WebSocket) -> None:
        websocket.send("a line")

    with (
        serve(handler) as server,
        Script([*CLIENT, "--json", f"127.0.0.1:{server.port}"]) as client,
    ):
        assert client.exit_code() == 0
        assert [json.loads(line) for line in client.lines] == [{"type": "line", "text": "a line"}]


def test_a_refusal_is_an_event_and_exit_code_1() -> None:
    with ServerScript("--no-notices") as server:
        result = run([*CLIENT, "--json", server.url], "hello\n" + "y" * 70_000 + "\n")
        assert result.returncode == 1
        assert json.loads(result.stdout.splitlines()[-1])["type"] == "message"


def test_the_messages_of_an_embedded_server_come_out_of_a_pipe() -> None:
    with ChatServer(port=0, greeting="") as chat, Client(f"ws://127.0.0.1:{chat.port}") as client:
        with Script([*CLIENT, f"127.0.0.1:{chat.port}", "--nick", "pipe"]) as piped:
            piped.type("one\n")
            while True:
                event = client.receive(PATIENCE)
                if isinstance(event, Message):
                    assert (event.nick, event.text) == ("pipe", "one")
                    break


# Odd ends.


def test_an_input_that_cannot_be_read_is_one_line_and_exit_code_1() -> None:
    with ServerScript("--no-notices") as server:
        result = run(["sh", "-c", f"exec {shlex.join([*CLIENT, server.url])} 0>/dev/null"])
        assert result.returncode == 1
        assert result.stderr.splitlines()[-1] == "cannot read the input: Bad file descriptor"


def test_an_output_that_does_not_block_loses_nothing() -> None:
    def handler(websocket: WebSocket) -> None:
        for number in range(3000):
            websocket.send(f"{number} " + "x" * 200)

    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with (
        serve(handler, max_backlog=64 * 1024 * 1024) as server,
        subprocess.Popen(
            [*CLIENT, f"127.0.0.1:{server.port}"],
            stdin=subprocess.PIPE,
            stdout=writing,
            stderr=subprocess.PIPE,
            env=environment(),
        ) as client,
    ):
        os.close(writing)
        # Until the pipe is full.
        wait_for(lambda: psutil.Process(client.pid).status() == psutil.STATUS_SLEEPING)
        with os.fdopen(reading, encoding="utf-8") as output:
            assert [line.split()[0] for line in output] == [str(n) for n in range(3000)]
        client.communicate(timeout=PATIENCE)
        assert client.returncode == 0


def test_a_line_without_an_end_takes_no_memory() -> None:
    with ServerScript("--no-notices", "--greeting", "") as server:
        command = (
            f"(head -c 300000000 /dev/zero; echo; echo end) | {shlex.join([*CLIENT, server.url])}"
        )
        result = run(["sh", "-c", f"ulimit -v 1000000; {command}"])
        assert result.stdout.endswith(": end\n")
        refused = "line 1 was refused: it is longer than the 4194304 characters of a line"
        assert refused in result.stderr
        assert result.returncode == 1
