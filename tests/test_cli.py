"""The two commands: flags, environment, exit codes, pipes, signals."""

from __future__ import annotations

import json
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from wsproto.events import CloseConnection, TextMessage

from syncchat import ChatServer, __version__
from syncchat.net import WebSocket, serve
from tests.peer import PATIENCE, Peer, wait_for
from tests.processes import CLIENT, SERVER, Script, ServerScript, environment

GREETING = "Welcome to chat! Type a message"


def run(command: list[str], text: str = "", **changes: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        input=text,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=PATIENCE * 2,
        check=False,
        env=environment(**changes),
    )


# Usage.


@pytest.mark.parametrize(
    "command",
    [
        SERVER,
        CLIENT,
        [sys.executable, "-m", "syncchat"],
        [sys.executable, "-m", "syncchat", "server"],
        [sys.executable, "-m", "syncchat", "client"],
    ],
    ids=lambda command: " ".join(command[1:])[-20:],
)
def test_version_and_help(command: list[str]) -> None:
    version = run([*command, "--version"])
    assert (version.returncode, version.stdout) == (0, f"syncchat {__version__}\n")
    usage = run([*command, "--help"])
    assert usage.returncode == 0
    assert usage.stdout.startswith("usage: ")


@pytest.mark.parametrize(
    ("command", "changes", "complaint"),
    [
        ([*SERVER, "--port", "65536"], {}, "'65536' is no port"),
        ([*SERVER, "--port", "-1"], {}, "port"),
        ([*SERVER, "--port", "http"], {}, "'http' is no port"),
        ([*SERVER, "--nonsense"], {}, "--nonsense"),
        ([*SERVER, "--format", "{name}"], {}, "must hold {text}"),
        (SERVER, {"SYNCCHAT_PORT": "x"}, "'x' is no port"),
        (SERVER, {"SYNCCHAT_ECHO": "maybe"}, "SYNCCHAT_ECHO"),
        (SERVER, {"SYNCCHAT_QUIET": "maybe"}, "SYNCCHAT_QUIET"),
        (SERVER, {"SYNCCHAT_FORMAT": "{"}, "must hold {text}"),
        ([*CLIENT, "http://localhost/"], {}, "ws://"),
        ([*CLIENT, "ws://localhost:99999/"], {}, "Port out of range"),
        (CLIENT, {"SYNCCHAT_URL": "nowhere"}, "ws://"),
        (CLIENT, {"SYNCCHAT_PORT": "x"}, "URL"),
        ([sys.executable, "-m", "syncchat", "nonsense"], {}, "nonsense"),
        ([sys.executable, "-m", "syncchat"], {}, "command"),
    ],
)
def test_wrong_usage_is_argparses_error_and_exit_code_2(
    command: list[str], changes: dict[str, str], complaint: str
) -> None:
    result = run(command, **changes)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("usage: ")
    assert complaint in result.stderr
    assert "Traceback" not in result.stderr


def test_both_scripts_are_subcommands_of_the_module() -> None:
    with Script([sys.executable, "-m", "syncchat", "server", "--port", "0"]) as server:
        port = server.wait_for_line(r"listening on port \d+").rsplit(" ", 1)[1]
        url = f"ws://127.0.0.1:{port}"
        result = run([sys.executable, "-m", "syncchat", "client", url], "hi\n")
        assert result.returncode == 0
        assert re.fullmatch(rf"{GREETING}\n127\.0\.0\.1:\d+: hi\n", result.stdout)


# The server.


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_server_in_order(number: signal.Signals) -> None:
    with ServerScript() as server, Peer.client(server.port) as peer:
        assert peer.expect(TextMessage).data == GREETING
        server.signal(number)
        close = peer.expect(CloseConnection)
        assert close.code == 1001
        peer.send(close.response())
        assert peer.expect_end() == b""
        peer.close()
        assert server.exit_code() == 0
        assert server.errors == []
        assert server.lines[-1].endswith("disconnected")


def test_a_port_in_use_is_one_line_and_exit_code_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = str(sock.getsockname()[1])
        result = run([*SERVER, "--port", port])
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr == f"cannot listen at 127.0.0.1:{port}: address already in use\n"


def test_a_host_that_does_not_exist_is_one_line_and_exit_code_1() -> None:
    result = run([*SERVER, "--host", "no-such-host.invalid", "--port", "0"])
    assert result.returncode == 1
    assert result.stderr.startswith("cannot listen at no-such-host.invalid:0: ")
    assert result.stderr.count("\n") == 1


def test_ipv6_addresses_are_in_brackets() -> None:
    with Script([*SERVER, "--host", "::1", "--port", "0"]) as server:
        port = int(server.wait_for_line(r"listening on port \d+").rsplit(" ", 1)[1])
        with Peer.client(port, host="::1") as peer:
            who = f"[::1]:{peer.sock.getsockname()[1]}"
            server.wait_for_line(re.escape(f"New connection from {who}"))
            assert peer.expect(TextMessage).data == GREETING
            peer.send(TextMessage(data="hi"))
            assert peer.expect(TextMessage).data == f"{who}: hi"
            server.wait_for_line(re.escape(f"Received from {who}: hi"))
        server.wait_for_line(re.escape(f"Client {who} disconnected"))
        result = run([*CLIENT, f"ws://[::1]:{port}/"], "hello\n")
        assert result.returncode == 0
        assert re.search(r"^\[::1\]:\d+: hello$", result.stdout, re.MULTILINE)


def test_a_host_name_serves_all_its_addresses() -> None:
    with Script([*SERVER, "--host", "localhost", "--port", "0"]) as server:
        port = server.wait_for_line(r"listening on port \d+").rsplit(" ", 1)[1]
        result = run([*CLIENT, f"ws://localhost:{port}/"], "hello\n")
        assert result.returncode == 0
        assert result.stdout.endswith(": hello\n")


def test_every_server_setting_has_its_environment_variable() -> None:
    with Script(
        SERVER,
        SYNCCHAT_HOST="127.0.0.2",
        SYNCCHAT_PORT="0",
        SYNCCHAT_GREETING="Hej",
        SYNCCHAT_ECHO="no",
        SYNCCHAT_FORMAT="<{text}>",
        SYNCCHAT_NOTICES="no",
    ) as server:
        port = int(server.wait_for_line(r"listening on port \d+").rsplit(" ", 1)[1])
        with (
            Peer.client(port, host="127.0.0.2") as one,
            Peer.client(port, host="127.0.0.2") as two,
        ):
            assert one.expect(TextMessage).data == two.expect(TextMessage).data == "Hej"
            two.send(TextMessage(data="I am in"))
            assert one.expect(TextMessage).data == "<I am in>"
            one.send(TextMessage(data="x"))
            assert two.expect(TextMessage).data == "<x>"


@pytest.mark.parametrize(
    ("flag", "changes"), [("--quiet", {}), ("--echo", {"SYNCCHAT_QUIET": "1"})]
)
def test_quiet_prints_nothing(flag: str, changes: dict[str, str]) -> None:
    with Script([*SERVER, "--port", "0", flag], **changes) as server:
        process = psutil.Process(server.process.pid)

        def port() -> int:
            listening = [c for c in process.net_connections("tcp") if c.status == "LISTEN"]
            return listening[0].laddr.port if listening else 0

        wait_for(port)
        with Peer.client(port()) as peer:
            assert peer.expect(TextMessage).data == GREETING
        server.signal(signal.SIGTERM)
        assert server.exit_code() == 0
        assert server.lines == server.errors == []


def test_n_clients_cost_the_process_n_and_two_threads() -> None:
    with ServerScript() as server:
        peers = [Peer.client(server.port) for _ in range(10)]
        assert psutil.Process(server.process.pid).num_threads() == 12
        for peer in peers:
            peer.close()


def test_an_output_that_nobody_reads_holds_up_nobody() -> None:
    command = [*SERVER, "--port", "0", "--greeting", "", "--rate", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment()) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline().rsplit(b" ", 1)[1])
        with Peer.client(port) as peer:
            # Far more than the pipe and what may be queued for it hold.
            for number in range(60):
                peer.send(TextMessage(data=f"{number} " + "x" * 60_000))
                text = ""
                while not (event := peer.expect(TextMessage)).message_finished:
                    text += event.data
                assert f": {number} " in (text + event.data)[:40]
        process.terminate()
        output = process.stdout.read().decode()
        assert process.wait(PATIENCE) == 0
        assert f"Received from 127.0.0.1:{peer_port(output)}: 0 x" in output


def peer_port(output: str) -> str:
    found = re.search(r"New connection from 127\.0\.0\.1:(\d+)", output)
    assert found is not None
    return found[1]


def test_an_output_that_is_closed_does_not_end_the_server() -> None:
    with subprocess.Popen(
        [*SERVER, "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        port = int(process.stdout.readline().rsplit(b" ", 1)[1])
        process.stdout.close()
        for _ in range(3):
            with Peer.client(port) as peer:
                assert peer.expect(TextMessage).data == GREETING
        process.terminate()
        assert process.wait(PATIENCE) == 0
        assert process.stderr.read() == b""


# The client in a pipe.


def test_a_pipe_sends_every_line_waits_for_the_server_and_exits_0() -> None:
    lines: list[str] = []
    with ChatServer(port=0, log=lines.append, rate=0) as chat:
        url = f"ws://127.0.0.1:{chat.port}/"
        text = "".join(f"line {number}\n" for number in range(500)) + "the last, without its end"
        result = run([*CLIENT, url], text)
        assert result.returncode == 0
        received = [line.partition(": ")[2] for line in lines if line.startswith("Received")]
        assert received == text.split("\n")
        assert result.stdout.startswith(f"{GREETING}\n")
        shown = [line.partition(": ")[2] for line in result.stdout.splitlines()[1:]]
        assert shown == text.split("\n")
        assert result.stderr == "Connected to the chat!\n"


def test_a_pipe_shows_each_message_at_once() -> None:
    with ServerScript() as server, Script([*CLIENT, server.url]) as client:
        client.wait_for_line(re.escape(GREETING))
        client.type("one\n")
        client.wait_for_line(r"127\.0\.0\.1:\d+: one")
        assert not any(">" in line for line in client.lines)
        client.end_input()
        assert client.exit_code() == 0


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
            assert client.stdout.readline() == f"{GREETING}\n"
            client.stdout.close()
            client.stdin.write("one more\n")
            assert client.wait(PATIENCE) == 0
            assert client.stderr.read() == "Connected to the chat!\n"


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
            assert client.wait(PATIENCE) == 1
            assert client.stderr is not None
            assert client.stderr.read().splitlines()[1:] == [
                "cannot write the output: No space left on device"
            ]


def test_standard_streams_that_are_closed_are_no_traceback() -> None:
    with ServerScript() as server:
        for closed in ("<&-", ">&-"):
            result = run(["sh", "-c", f"exec {' '.join([*CLIENT, server.url])} {closed}"])
            assert result.returncode == 1
            assert result.stderr == "standard input and output must be open\n"
    with Script(["sh", "-c", f"exec {' '.join(SERVER)} --port 0 >&-"]) as silent:
        wait_for(lambda: psutil.Process(silent.process.pid).net_connections("tcp"))
        silent.signal(signal.SIGTERM)
        assert silent.exit_code() == 0
        assert silent.errors == []


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
        Script([*CLIENT, f"ws://127.0.0.1:{server.port}"]) as client,
    ):
        client.wait_for_line(
            re.escape("The server has closed the connection, 4000: enough[2J"),
            errors=True,
        )
        assert client.exit_code() == 1


def test_a_server_that_does_not_know_the_protocol_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(PATIENCE)
        url = f"ws://127.0.0.1:{listening.getsockname()[1]}/"
        with Script([*CLIENT, url]) as client:
            sock, _ = listening.accept()
            with sock:
                sock.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 9\r\n\r\n\x1b[2Jgo!\n\n")
            assert client.exit_code() == 1
            assert client.lines == []
            assert client.errors == [rf"cannot join the chat at {url}: HTTP status 403: \x1b[2Jgo!"]


def test_the_prefix_comes_from_the_environment_too() -> None:
    with ServerScript() as server:
        result = run([*CLIENT, server.url], "", SYNCCHAT_PREFIX="| ")
        assert result.stdout in (f"| {GREETING}\n", "")
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


def test_the_log_is_json_where_that_is_asked_for() -> None:
    with ServerScript("--no-notices") as plain:
        assert plain.lines == [f"listening on port {plain.port}"]
    with Script([*SERVER, "--port", "0", "--log-json"]) as server:
        line = server.wait_for_line(".*")
        assert json.loads(line).keys() == {"time", "event", "port"}
    with Script([*SERVER, "--port", "0"], SYNCCHAT_LOG_JSON="yes") as server:
        assert server.wait_for_line(".*").startswith("{")


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
        assert lines[1] == "cannot send a line: it is longer than the 65536 bytes of a message"
        assert result.returncode == 1
