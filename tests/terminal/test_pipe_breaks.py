"""The client in a pipe: reconnects and exit."""

from __future__ import annotations

import re
import shlex
import signal
import socket
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from syncchat.net import WebSocket, serve
from tests.peer import PATIENCE, wait_for
from tests.people import GREETING
from tests.processes import CLIENT, SERVER, Script, ServerScript, environment, unread


def test_ctrl_c_in_a_pipe_closes_cleanly() -> None:
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


def test_signals_at_any_moment_end_a_pipe_cleanly() -> None:
    """Also within a lock of the standard library, where an exception would break the lock."""

    def handler(websocket: WebSocket) -> None:
        websocket.send("hello")
        list(websocket)

    with serve(handler) as server:
        for _ in range(8):
            with Script([*CLIENT, f"ws://127.0.0.1:{server.port}"]) as client:
                client.wait_for_line("hello")
                for _ in range(100):
                    client.signal(signal.SIGINT)
                assert client.exit_code() == 0
                assert client.errors == ["Connected to the chat!"]


def test_a_server_that_stops_is_reported_with_exit_code_1() -> None:
    with (
        serve(lambda websocket: websocket.close(4000, "enough\x1b[2J")) as server,
        Script([*CLIENT, f"ws://127.0.0.1:{server.port}", "--no-reconnect"]) as client,
    ):
        client.wait_for_line(
            re.escape("The server closed the connection, 4000: enough[2J"),
            errors=True,
        )
        assert client.exit_code() == 1


# Across reconnects.


def test_a_long_running_pipe_survives_restarts_of_the_server(tmp_path: Path) -> None:
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


def test_a_lost_connection_is_reported_on_standard_error() -> None:
    with ExitStack() as stack:
        with ServerScript("--no-notices") as server:
            client = stack.enter_context(Script([*CLIENT, server.url]))
            client.wait_for_line(re.escape(GREETING), errors=True)
        client.wait_for_line(
            "(The server has stopped|The connection to the server was lost).*", errors=True
        )
        client.wait_for_line("-> Reconnecting.", errors=True)
        client.type("said meanwhile\n")
        again = stack.enter_context(Script([*SERVER, "--port", str(server.port)]))
        again.wait_for_line("Received from .*: said meanwhile")
        client.wait_for_line("Connected to the chat again!", errors=True)
        client.end_input()
        assert client.exit_code() == 0
        assert "Traceback" not in "\n".join(client.errors)


def is_asleep(process: psutil.Process) -> bool:
    """Whether a process sleeps; after a moment."""
    time.sleep(0.01)
    return process.status() == psutil.STATUS_SLEEPING


def test_a_signal_reports_undelivered_messages() -> None:
    with ExitStack() as stack:
        with ServerScript() as server:
            client = stack.enter_context(Script([*CLIENT, server.url]))
            client.wait_for_line(re.escape(GREETING), errors=True)
        client.wait_for_line("-> Reconnecting.", errors=True)
        client.type("one\ntwo\n")
        wait_for(lambda: unread(client) == 0)
        client.end_input()
        # Its input has ended, but it still waits for the server.
        # It waits for nothing else if it sleeps for longer.
        process = psutil.Process(client.process.pid)
        wait_for(lambda: all(is_asleep(process) for _ in range(30)))
        client.signal(signal.SIGTERM)
        assert client.exit_code() == 1
        assert client.errors[-1] == "Not delivered: 2 of your messages."


def test_a_plain_server_gets_the_remaining_lines_after_a_reconnect() -> None:
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
        client.wait_for_line("-> Reconnecting.", errors=True)
        client.type("two\n")
        with serve(handler, port=port):
            client.end_input()
            assert client.exit_code() == 0
        assert heard == ["one", "two"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_pipe_cleanly(number: signal.Signals) -> None:
    with ServerScript("--no-notices") as server, Script([*CLIENT, server.url]) as client:
        client.wait_for_line(re.escape(GREETING), errors=True)
        client.type("last words\n")
        server.wait_for_line("Received from .*: last words")
        client.signal(number)
        assert client.exit_code() == 0
        server.wait_for_line("Client .* disconnected")
        assert client.errors == ["Connected to the chat!", GREETING]
