"""The client in a pipe, and the server's rate limit."""

from __future__ import annotations

import re
import shlex
import signal
import time
from pathlib import Path

import pexpect
import pyte
import pytest

from tests.peer import PATIENCE
from tests.processes import CLIENT, Script, ServerScript, environment, run

LIMIT = "The server accepts 20 messages per second from one client"

LIFT = r"The server's flag --rate 0 removes the limit\."


def test_a_pipe_shows_the_rate_limit_and_the_remaining_time() -> None:
    """Issue 13, item 8: once, as a plain line, if standard error is not a terminal."""
    with ServerScript("--no-notices", "--rate", "20", "--burst", "5", "--greeting", "") as server:
        for flags in ([], ["--json"]):
            begin = time.monotonic()
            result = run([*CLIENT, *flags, server.url], "".join(f"{n}\n" for n in range(35)))
            assert result.returncode == 0
            assert time.monotonic() - begin > 1
            _, told = result.stderr.splitlines()
            wanted = rf"{LIMIT}: the remaining (\d+) lines take about (\d+) s\. {LIFT}"
            found = re.fullmatch(wanted, told)
            assert found is not None, told
            assert 20 < int(found[1]) <= 35
            assert 1 <= int(found[2]) <= 2


def test_a_short_input_shows_no_rate_limit() -> None:
    """Issue 13, item 8: input within the limit is not delayed."""
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


@pytest.mark.slow
def test_an_endless_input_shows_the_rate_only() -> None:
    """Issue 13, item 8: the length of the input is unknown."""
    with ServerScript("--no-notices", "--rate", "20", "--greeting", "") as server:
        with Script([*CLIENT, server.url]) as client:
            client.type("".join(f"{number}\n" for number in range(60)))
            client.wait_for_line(f"{LIMIT} and delays further input\\. {LIFT}", errors=True)
            client.end_input()
            assert client.exit_code() == 0
            assert len(client.errors) == 2


def test_the_lines_of_a_file_are_counted(tmp_path: Path) -> None:
    """Issue 13, item 8: lines that are not read yet are counted, too."""
    path = tmp_path / "lines"
    path.write_text("".join(f"{number}\n" for number in range(20_000)) + "the last")
    with ServerScript("--no-notices", "--rate", "20", "--greeting", "") as server:
        command = f"exec {shlex.join([*CLIENT, server.url])} <{shlex.quote(str(path))}"
        with Script(["sh", "-c", command]) as client:
            line = client.wait_for_line(f"{LIMIT}: .*", errors=True)
            client.signal(signal.SIGKILL)
    found = re.fullmatch(rf"{LIMIT}: the remaining (\d+) lines take about 17 min\. {LIFT}", line)
    assert found is not None, line
    assert 19_900 < int(found[1]) <= 20_001


@pytest.mark.parametrize("flags", [[], pytest.param(["--json"], marks=pytest.mark.slow)])
@pytest.mark.slow
def test_a_terminal_shows_and_removes_the_progress_line(flags: list[str]) -> None:
    """Issue 13, item 8: on standard error, below other lines there."""
    with ServerScript("--no-notices", "--rate", "20", "--burst", "5", "--greeting", "") as server:
        command = shlex.join([*CLIENT, *flags, server.url])
        child = pexpect.spawn(
            "sh",
            ["-c", f"seq 50 | {command} >/dev/null"],
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
    assert len(progress) > 2
    acknowledged = [int(each[2]) for each in progress if each is not None]
    assert len(acknowledged) == len(progress)
    assert acknowledged == sorted(acknowledged)
    assert progress[-1] is not None
    assert progress[-1][1] == progress[-1][3] == "50"
    # Nothing of the progress line remains.
    assert not any("to go" in line for line in screen.display)


@pytest.mark.slow
def test_progress_and_messages_share_a_terminal() -> None:
    """Issue 13, item 8: lines of the two streams do not mix."""
    with ServerScript("--no-notices", "--rate", "20", "--burst", "5", "--greeting", "") as server:
        command = shlex.join([*CLIENT, "--nick", "ann", server.url])
        child = pexpect.spawn(
            "sh",
            ["-c", f"seq 35 | {command}"],
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
    assert said == [f"ann: {number}" for number in range(1, 36)]
    # The other lines are of standard error, which takes two rows.
    assert len(shown) == 35 + 1 + 2
