"""``--stdin ROOM`` and ``--read-only ROOM``: many watch what a program prints."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from syncchat import ChatServer
from tests.peer import PATIENCE, ask_http, wait_for
from tests.people import Json, url_of
from tests.processes import SERVER, ServerScript, run


def texts(port: int, path: str = "/build?poll=1") -> list[str]:
    events = [json.loads(line) for line in ask_http(port, path)[2].splitlines()]
    return [event["text"] for event in events if event["type"] == "message"]


def post(port: int, path: str, token: str | None = None) -> int:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        client.request("POST", path, b"hello", headers)
        return client.getresponse().status
    finally:
        client.close()


def test_what_a_program_prints_is_said_in_the_room() -> None:
    with ServerScript("--stdin", "#Build") as server:
        with Json(f"ws://127.0.0.1:{server.port}/build") as watcher:
            assert watcher.event("welcome")["room"] == "build"
            server.type("compiling\r\n\n  \x1b[1;31mindented\x1b[m\x07\n10%\r20%\r\n")
            for text in ("compiling", "  indented", "20%"):
                message = watcher.find("message")
                assert (message["nick"], message["text"]) == ("server", text)
            server.type("no newline")
            server.end_input()
            assert watcher.find("message")["text"] == "no newline"
        # The server goes on, and stops as usual.
        assert texts(server.port) == ["compiling", "  indented", "20%", "no newline"]
        server.signal(signal.SIGINT)
        assert server.exit_code() == 0
        assert server.errors == []


def test_a_server_stops_while_its_input_is_open() -> None:
    with ServerScript("--stdin", "build") as server:
        server.type("one\n")
        wait_for(lambda: texts(server.port) == ["one"])
        server.signal(signal.SIGTERM)
        assert server.exit_code() == 0


def test_a_long_line_becomes_several_messages() -> None:
    with ServerScript("--stdin", "build") as server:
        server.type("x" * 20_000 + "\nlast\n")
        wait_for(lambda: texts(server.port)[-1:] == ["last"])
        said = texts(server.port)
        assert "".join(said[:-1]) == "x" * 20_000
        assert max(map(len, said)) <= 8192


def test_a_fast_program_is_said_completely_and_in_order() -> None:
    count = 5000
    with ServerScript("--stdin", "build", "--keep", str(count)) as server:
        server.type("".join(f"{number}\n" for number in range(count)))
        wait_for(lambda: texts(server.port, "/build?poll=1&history=1") == [str(count - 1)])
        assert texts(server.port) == [str(number) for number in range(count)]


def test_only_the_server_speaks_in_a_read_only_room(tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("speak\n", "utf-8")
    flags = ("--read-only", "build,deploy", "--speaker-token-file", str(secret))
    with ServerScript("--stdin", "build", *flags) as server:
        with Json(f"ws://127.0.0.1:{server.port}/build") as watcher:
            watcher.ask(type="say", text="may I?", nonce="1")
            error = watcher.find("error")
            assert (error["code"], error["nonce"]) == ("refused", "1")
            watcher.ask(type="action", text="waves")
            assert watcher.find("error")["command"] == "action"
            watcher.ask(type="away", reason="read this")
            assert watcher.find("error")["command"] == "away"
            watcher.ask(type="away", reason="")
            assert "reason" not in watcher.find("away")
            server.type("one\n")
            assert watcher.find("message")["text"] == "one"
            assert post(server.port, "/build") == 403
            assert post(server.port, "/Deploy") == 403
            assert post(server.port, "/build", "wrong") == 403
            assert post(server.port, "/other") == 201
            assert post(server.port, "/build", "speak") == 201
            assert watcher.find("message")["text"] == "hello"
        console = run(
            [*SERVER, "do", "--port", str(server.port), "--room", "build", "read-only", "off"]
        )
        assert console.stderr == "The server's settings make build read-only.\n"
        with Json(f"ws://127.0.0.1:{server.port}/build?token=speak") as speaker:
            speaker.ask(type="say", text="I may")
            assert speaker.find("message")["text"] == "I may"


def test_the_speaker_token_admits_too() -> None:
    chat = ChatServer(port=0, token="in", speaker_token="speak", read_only=["news"])
    with chat:
        assert post(chat.port, "/news") == 401
        assert post(chat.port, "/news", "in") == 403
        assert post(chat.port, "/news", "speak") == 201
        assert post(chat.port, "/chat", "in") == 201
        chat.say("from the program", "news")
        with Json(url_of(chat, "/news?token=in&history=5")) as reader:
            reader.event("welcome")
            said = [message["text"] for message in reader.event("history")["messages"]]
            assert said == ["hello", "from the program"]


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--stdin", "a b"], "A room's name must be one word without blanks."),
        (["--read-only", "a/b"], "A room's name cannot contain /."),
        (["--speaker-token-file", "/nowhere"], "cannot read a token from /nowhere"),
        (["--stdin", "x", "--workers", "2", "--engine", "redis://127.0.0.1"], "--workers"),
    ],
)
def test_wrong_flags_are_explained(flags: list[str], complaint: str) -> None:
    done = subprocess.run(
        [*SERVER, "--port", "0", *flags],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 2
    assert complaint in done.stderr


def test_a_pipeline_of_the_shell() -> None:
    program = f"{sys.executable} -c 'print(42)'"
    command = f"{program} | exec {' '.join(SERVER)} --port 0 --stdin build"
    with subprocess.Popen(
        command,
        shell=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as shell:
        assert shell.stdout is not None
        try:
            port = int(shell.stdout.readline().rsplit(" ", 1)[1])
            wait_for(lambda: texts(port) == ["42"])
        finally:
            # As Ctrl+C does.
            os.killpg(shell.pid, signal.SIGINT)
        assert "Traceback" not in shell.stdout.read()
