"""The client with --listen."""

from __future__ import annotations

import shlex
import signal
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from syncchat import Client
from syncchat.net import serve
from tests.peer import PATIENCE, wait_for
from tests.processes import CLIENT, SERVER, Script, ServerScript, Terminal, environment, run

# --listen.


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.slow
def test_a_listening_client_runs_until_a_signal(number: signal.Signals, tmp_path: Path) -> None:
    """Issue 13, item 9: without any input, as under systemd, and across a reconnect."""
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
        # By now a pipe without input would have ended.
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
    """Send it until it is received: the listening client may not have joined yet."""

    def heard() -> bool:
        client.say(text)
        client.flush(PATIENCE)
        return f"bob: {text}\n" in output.read_text()

    wait_for(heard)


def test_a_listening_client_needs_no_standard_input() -> None:
    """Issue 13, item 9: standard input may be closed, a terminal, or full of text."""
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


def test_a_listening_client_ends_with_the_conversation() -> None:
    """Issue 13, item 9: as in a pipe, the first connection has to succeed."""
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


def test_nohup_keeps_a_listening_client() -> None:
    """Issue 13, item 9: SIGHUP does not end it under nohup."""
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
