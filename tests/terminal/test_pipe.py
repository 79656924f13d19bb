"""The client in a pipe: lines in, lines or events out."""

from __future__ import annotations

import json
import re
import subprocess
import threading
from contextlib import ExitStack

import pytest

from syncchat import ChatServer, Client
from syncchat.chat.events import Error, Message, Say, decode_from_client, encode
from syncchat.errors import BadEvent
from syncchat.net import WebSocket, serve
from tests.peer import PATIENCE, Peer, wait_for
from tests.people import GREETING, url_of
from tests.processes import CLIENT, SERVER, Script, ServerScript, environment, run, unread
from tests.stage import welcome


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
    """Issue 13, item 6: they are indented once, by the same prefix, before their own blanks."""
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


def test_a_pipe_accepts_crlf_and_invalid_utf8() -> None:
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


def test_a_pipe_sends_lines_that_begin_with_a_slash() -> None:
    lines: list[str] = []
    with ChatServer(port=0, greeting="") as chat:
        result = run([*CLIENT, f"ws://127.0.0.1:{chat.port}/"], "one\n/quit\n//x\nlast\n")
        assert result.returncode == 0
        lines = [line.partition(": ")[2] for line in result.stdout.splitlines()]
        assert lines == ["one", "/quit", "//x", "last"]


def test_the_prefix_can_come_from_the_environment() -> None:
    with ServerScript() as server:
        result = run([*CLIENT, server.url, "--nick", "ann"], "hi\n", SYNCCHAT_PREFIX="| ")
        assert result.stdout == "| ann: hi\n"
        assert result.returncode == 0


def test_nick_and_history_come_from_flags_and_environment() -> None:
    with ServerScript("--no-notices", "--greeting", "") as server:
        first = run([*CLIENT, server.url, "--nick", "ann"], "one\ntwo\n")
        assert (first.stdout, first.returncode) == ("ann: one\nann: two\n", 0)
        second = run([*CLIENT, server.url], "three\n", SYNCCHAT_NICK="bob", SYNCCHAT_HISTORY="1")
        assert (second.stdout, second.returncode) == ("ann: two\nbob: three\n", 0)
    for flags, why in [
        (["--nick", "server"], "The nick server is reserved."),
        (["--nick", "a b"], "A nick must be one word"),
        (["--history", "-1"], "must be a non-negative integer, not '-1'"),
    ]:
        result = run([*CLIENT, *flags], "")
        assert result.returncode == 2
        assert why in result.stderr


def test_other_events_go_to_standard_error() -> None:
    with ServerScript("--no-notices", "--greeting", "") as server:
        with ServerScript("--no-notices", "--greeting", "") as other:
            taken = Peer.client(server.port, "/?nick=ann")
            with taken:
                result = run([*CLIENT, server.url, "--nick", "ann"], "hello\n")
                assert re.fullmatch(r"127\.0\.0\.1:\d+: hello\n", result.stdout)
                assert "-> The nick ann is taken here" in result.stderr
                # Its message is stored nevertheless.
                assert result.returncode == 0
            result = run([*CLIENT, f"{other.url}?after=another:5"], "hello\n")
            assert result.stdout.endswith(": hello\n")
            assert "The server has restarted; earlier messages are no longer kept." in result.stderr


def test_a_line_that_is_too_long_is_reported_and_the_others_are_sent() -> None:
    with ServerScript("--no-notices", "--greeting", "") as server:
        result = run([*CLIENT, server.url, "--nick", "ann"], f"one\n{'x' * 70_000}\ntwo\n")
        assert result.stdout == "ann: one\nann: two\n"
        lines = result.stderr.splitlines()
        # Refused by the client, or by the server if its limit was not known yet.
        wanted = r"line 2 was refused: [Ii]t exceeds the limit of 65536 bytes for a message\.?"
        assert re.fullmatch(wanted, lines[1])
        assert result.returncode == 1


def test_only_messages_go_to_standard_output() -> None:
    """Issue 13, item 12: the greeting goes to standard error once, as notices do."""
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
        client.wait_for_line("-> Reconnecting.", errors=True)
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
    """Issue 13, item 12: by its number; the other lines are sent."""
    release = threading.Event()

    def late(websocket: WebSocket) -> None:
        # The first lines are sent before this.
        release.wait(PATIENCE)
        websocket.send(encode(welcome()))
        offset = 0
        for text in websocket:
            try:
                said = decode_from_client(str(text))
            except BadEvent as exc:
                # A line if this took so long that the client assumes plain lines.
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
        limit = r"t exceeds the limit of 65536 bytes for a message\.?"
        client.wait_for_line(f"line 2 was refused: [Ii]{limit}", errors=True)
        client.wait_for_line(".*three.*")
        client.type(f"{long}\n{'y' * 5_000_000}\nsix\n{'z' * 5_000_000}")
        client.end_input()
        assert client.exit_code() == 1
        client.wait_for_line(f"line 4 was refused: i{limit}", errors=True)
        for number in (5, 7):
            told = (
                f"line {number} was refused: it exceeds the limit of 4194304 characters for a line"
            )
            assert told in client.errors
        assert len([line for line in client.errors if "refused" in line]) == 4
        lines = client.lines
        if flags:
            events = [json.loads(line) for line in lines]
            lines = [f"ann: {each['text']}" for each in events if each["type"] == "message"]
        assert lines == ["ann: one", "ann: three", "ann: six"]


# Events.


def test_json_prints_one_event_per_line() -> None:
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


def test_json_of_a_plain_server() -> None:
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


def test_timestamps_in_a_pipe() -> None:
    with (
        ChatServer(port=0, notices=False) as chat,
        Script([*CLIENT, "--timestamps", "--prefix", "# ", url_of(chat)]) as client,
    ):
        client.type("one\n")
        client.wait_for_line(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d # .*: one")
