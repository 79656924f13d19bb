"""``syncchat-server do``: operators' commands from the machine of the server."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.peer import PATIENCE, wait_for
from tests.people import Json
from tests.processes import SERVER, ServerScript, run
from tests.redis_server import RedisProcess


def do(port: int, *words: str, **changes: str) -> tuple[int, str, str]:
    """Exit code, output and errors of the command."""
    result = run([*SERVER, "do", "--port", str(port), *words], **changes)
    return result.returncode, result.stdout.strip(), result.stderr.strip()


@pytest.fixture
def runtime(tmp_path: Path) -> str:
    """A folder for the sockets of a user."""
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    return str(folder)


def test_the_console_acts_on_the_server_that_runs(runtime: str) -> None:
    own = {"XDG_RUNTIME_DIR": runtime}
    with ServerScript("--rate", "0", **own) as server, Json(f"{server.url}?nick=bob") as bob:
        bob.event("welcome")
        assert do(server.port, "kick", "eve", **own) == (1, "", "eve is not in lobby.")
        assert do(server.port, "topic", "Tea", "at", "four", **own) == (0, "The topic is set.", "")
        assert bob.event("topic")["by"] == "console"
        assert do(server.port, "bans", **own) == (0, "There are no bans.", "")
        assert do(server.port, "--room", "ops", "topic", **own)[1] == "* There is no topic."
        for network in ("192.0.2.0/24", "2001:db8::/48"):
            assert do(server.port, "/ban", network, "2h", "spam", **own)[0] == 0
        _, output, _ = do(server.port, "bans", **own)
        for line, network in zip(
            output.split("\n"), ("192.0.2.0/24", "2001:db8::/48"), strict=True
        ):
            assert line.startswith(f"{network} until ")
            assert line.endswith(", by console: spam")
        assert do(server.port, "kick", "bob", "be nice", **own) == (0, "bob was removed.", "")
        assert bob.find("error")["text"] == "You were removed from this room: be nice."
        assert bob.hear_end() == 1008
        wait_for(lambda: "console in lobby: kick bob: be nice" in server.lines)
        (socket,) = (Path(runtime) / "syncchat").iterdir()
        assert socket.parent.stat().st_mode & 0o077 == 0
        port = server.port
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: not socket.exists())
    code, output, error = do(port, "bans", **own)
    assert (code, output) == (1, "")
    assert error == f"no server of this user runs on port {port}: start one, or set --port"


def test_a_command_that_makes_no_sense_is_wrong_usage(runtime: str) -> None:
    for words, told in (
        (["kick"], "Usage: /kick NAME [REASON]"),
        (["kikc", "bob"], "Did you mean /kick?"),
        (["say", "hello"], "Unknown command /say"),
        (["nick", "bob"], "nick is not a command of operators"),
        (["--room", "a b", "bans"], "one word"),
        (["--port", "x", "bans"], "must be a port"),
    ):
        code, output, error = do(2000, *words, XDG_RUNTIME_DIR=runtime)
        assert (code, output) == (2, ""), words
        assert told in error


def test_a_folder_of_others_is_refused_and_the_server_serves(runtime: str) -> None:
    folder = Path(runtime) / "syncchat"
    folder.mkdir()
    folder.chmod(0o777)
    with ServerScript(XDG_RUNTIME_DIR=runtime) as server, Json(f"{server.url}?nick=bob") as bob:
        bob.event("welcome")
        wait_for(lambda: bool(server.errors))
        (told,) = server.errors
        assert told.startswith("syncchat-server do cannot reach this server: ")
        assert "0700" in told
        assert do(server.port, "bans", XDG_RUNTIME_DIR=runtime)[0] == 1


@pytest.mark.slow
def test_a_socket_that_a_killed_server_left_is_replaced(runtime: str) -> None:
    own = {"XDG_RUNTIME_DIR": runtime}
    with ServerScript(**own) as server:
        port = server.port
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait(PATIENCE)
    assert do(port, "bans", **own)[0] == 1
    with ServerScript("--port", str(port), **own):
        assert do(port, "bans", **own) == (0, "There are no bans.", "")


@pytest.mark.slow
def test_one_of_several_workers_has_the_console(runtime: str) -> None:
    own = {"XDG_RUNTIME_DIR": runtime}
    with (
        RedisProcess() as redis,
        ServerScript("--engine", redis.url, "--workers", "2", **own) as server,
        Json(f"{server.url}?nick=bob") as bob,
        Json(f"{server.url}?nick=eve") as eve,
    ):
        bob.event("welcome")
        eve.event("welcome")
        for client, nick in ((bob, "bob"), (eve, "eve")):
            assert do(server.port, "kick", nick, **own)[0] == 0
            assert client.hear_end() == 1008
