"""The standard streams of the client in a pipe: closed, full, endless."""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from syncchat.net import WebSocket, serve
from tests.peer import PATIENCE, wait_for
from tests.people import GREETING
from tests.processes import CLIENT, ServerScript, environment, run


def test_input_beyond_the_rate_limit_is_throttled() -> None:
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


def test_a_closed_reader_ends_a_pipe_quietly() -> None:
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


def test_an_unwritable_output_prints_one_line_with_exit_code_1() -> None:
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


def test_a_closed_reader_ends_a_pipe_at_once() -> None:
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
        # At ten messages per second, the rest would take minutes.
        assert time.monotonic() - begin < 15
        assert len(result.stdout.splitlines()) == 3
        assert "Traceback" not in result.stderr


def test_a_blocked_standard_error_does_no_harm() -> None:
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


# Unusual outputs and inputs.


def test_an_unreadable_input_prints_one_line_with_exit_code_1() -> None:
    with ServerScript("--no-notices") as server:
        result = run(["sh", "-c", f"exec {shlex.join([*CLIENT, server.url])} 0>/dev/null"])
        assert result.returncode == 1
        # The greeting may come before or after it.
        assert "cannot read the input: Bad file descriptor" in result.stderr.splitlines()


def test_a_non_blocking_output_loses_nothing() -> None:
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


@pytest.mark.slow
def test_an_endless_line_takes_no_memory() -> None:
    with ServerScript("--no-notices", "--greeting", "") as server:
        command = (
            f"(head -c 300000000 /dev/zero; echo; echo end) | {shlex.join([*CLIENT, server.url])}"
        )
        result = run(["sh", "-c", f"ulimit -v 1000000; {command}"])
        assert result.stdout.endswith(": end\n")
        refused = "line 1 was refused: it exceeds the limit of 4194304 characters for a line"
        assert refused in result.stderr
        assert result.returncode == 1
