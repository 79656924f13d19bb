"""The terminal client: reconnects and leaving."""

from __future__ import annotations

import signal
import socket
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from syncchat import ChatServer, Client
from syncchat.chat.events import (
    Away,
    AwayRequest,
)
from syncchat.net import WebSocket, serve
from tests.peer import PATIENCE, wait_for
from tests.people import GREETING, line, url_of
from tests.processes import SERVER, Script, ServerScript, Terminal
from tests.screen import Screen
from tests.stage import Stage


def test_leaving_is_a_proper_close() -> None:
    codes: list[int | None] = []

    def handler(websocket: WebSocket) -> None:
        list(websocket)
        codes.append(websocket.close_code)

    with serve(handler) as server:
        for keys in ("\x03", "\x04", "/quit\r", "typed\x03\x03"):
            with Screen(f"ws://127.0.0.1:{server.port}") as client:
                client.wait_for_line(">.*")
                client.type(keys)
                assert client.exit_code() == 0
                assert "Traceback" not in client.written.decode()
        wait_for(lambda: len(codes) == 4)
    assert codes == [1000] * 4


def test_a_close_by_the_server_is_exit_code_0() -> None:
    with (
        serve(lambda websocket: websocket.send("bye")) as server,
        Screen(f"ws://127.0.0.1:{server.port}") as client,
    ):
        assert client.exit_code() == 0
        client.wait_for_line("bye")
        client.wait_for_line(r"The server closed the connection\.")


def test_a_plain_line_after_a_reconnect_is_sent_and_one_before_it_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]

    def handler(websocket: WebSocket) -> None:
        for message in websocket:
            websocket.send(f"you said {message!s}")

    with ExitStack() as stack:
        with serve(handler, port=port):
            client = stack.enter_context(Screen(f"ws://127.0.0.1:{port}"))
            client.type("one\r")
            client.wait_for_line("you said one")
        client.wait_for_line("(The server has stopped|The connection to the server was lost).*")
        client.type("two\r")
        client.wait_for_line(r"-> Not sent: two \(the client is not connected at the moment\)")
        with serve(handler, port=port) as again:
            wait_for(lambda: again.connections)
            client.wait_for_line("Connected to the chat again!")
            client.type("three\r")
            client.wait_for_line("you said three")


def test_undelivered_messages_are_shown_on_leaving() -> None:
    with ExitStack() as stack:
        with ChatServer(port=0) as chat:
            client = stack.enter_context(Screen(f"ws://127.0.0.1:{chat.port}"))
            client.type("delivered\r")
            client.wait_for_line(r"127\.0\.0\.1:\d+: delivered")
            client.type("/join ops\r")
            client.wait_for_line("--- ops ---")
        client.wait_for_line("(The server has stopped|The connection to the server was lost).*")
        client.type("not delivered\r   \r")
        client.wait_for_line("… not delivered")
        client.wait_for_last(r" (lobby  )?ops \| .* \| reconnecting (in \d+ s|now) \| 1 unsent")
        client.type("\x04")
        assert client.exit_code() == 1
        client.wait_for_line("Not delivered: 1 of your messages.")
        client.wait_for_line("    not delivered")


def test_the_last_message_is_delivered_before_leaving() -> None:
    with ChatServer(port=0, notices=False) as chat:
        with Screen(f"ws://127.0.0.1:{chat.port}") as client:
            client.wait_for_line(">.*")
            client.type("last words\r\x04")
            assert client.exit_code() == 0
        with Client(f"ws://127.0.0.1:{chat.port}", history=1) as late:
            assert line(late) == GREETING
            assert line(late).endswith(": last words")


@pytest.mark.slow
def test_an_unresponsive_server_is_shown() -> None:
    with ServerScript() as server, Screen(server.url, nick="ann") as client:
        client.wait_for_last(r".*\| connected \| \d+ ms")
        server.signal(signal.SIGSTOP)
        try:
            client.wait_for_last(r" lobby \| ann \| 1 here \| no response for \d+ s", 30)
        finally:
            server.signal(signal.SIGCONT)
        client.wait_for_last(r".*\| connected \| \d+ ms")


def test_the_client_survives_a_kill_of_the_server(tmp_path: Path) -> None:
    engine = f"sqlite:{tmp_path / 'chat.db'}"
    with ExitStack() as stack:
        with ServerScript("--engine", engine) as server:
            client = stack.enter_context(Screen(server.url, nick="ann"))
            client.type("before\r")
            client.wait_for_line("ann: before")
            client.type("half a thought")
            client.wait_for_line("> half a thought")
            server.signal(signal.SIGKILL)
            server.exit_code()
        client.wait_for_line(r"(The server has stopped|The connection to the server was lost).*")
        client.wait_for_line("> half a thought")
        client.type(", finished\r")
        client.wait_for_line("… half a thought, finished")
        again = stack.enter_context(
            Script([*SERVER, "--port", str(server.port), "--engine", engine, "--rate", "0"])
        )
        again.wait_for_line(r"listening .*")
        with Client(server.url, nick="bob") as bob:
            bob.say("while ann was away")
            bob.flush(PATIENCE)
            client.wait_for_line("ann: half a thought, finished")
            client.wait_for_line("bob: while ann was away")
        client.wait_for_line("Connected to the chat again!")
        client.wait_for_last(r" lobby \| ann \| \d here \| connected.*")
        said = [line for line in client.scrollback() if line.startswith(("ann: ", "bob: "))]
        assert sorted(said) == [
            "ann: before",
            "ann: half a thought, finished",
            "bob: while ann was away",
        ]


def test_an_away_message_survives_a_reconnect() -> None:
    with Stage() as stage, Screen(stage.url) as client:
        stage.wait_for_client()
        client.wait_for_line(">.*")
        client.type("/away lunch\r")
        wait_for(lambda: stage.heard == [AwayRequest("lunch")])
        stage.tell(Away("ann", "lunch"))
        client.wait_for_last(r".*ann \(away\).*")
        stage.close(1012, "restart")
        stage.wait_for_client(2)
        wait_for(lambda: stage.heard == [AwayRequest("lunch")] * 2)


def test_a_new_log_of_the_server_is_reported() -> None:
    with ExitStack() as stack:
        with ChatServer(port=0) as chat:
            port = chat.port
            client = stack.enter_context(Screen(url_of(chat), nick="ann"))
            client.type("before\r")
            client.wait_for_line("ann: before")
        stack.enter_context(ChatServer(port=port))
        client.wait_for_line(r"-> The server has restarted; earlier messages are no longer kept\.")
        client.type("after\r")
        client.wait_for_line("ann: after")


# Leaving.


def test_leaving_does_not_wait_for_an_unresponsive_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    with ExitStack() as stack:
        with ChatServer(port=port) as chat:
            client = stack.enter_context(Screen(url_of(chat), nick="ann"))
            client.wait_for_line(">.*")
        client.type("never delivered\r")
        client.wait_for_line("… never delivered")
        # Its handshake succeeds, and it gets no message.
        mute = stack.enter_context(socket.create_server(("127.0.0.1", port)))
        mute.settimeout(PATIENCE)
        connection, _ = mute.accept()
        with connection:
            begin = time.monotonic()
            client.type("\x04")
            assert client.exit_code() == 1
            # The attempt itself would take ten seconds.
            assert time.monotonic() - begin < 9
        client.wait_for_line("Not delivered: 1 of your messages.")
        client.wait_for_line("    never delivered")


@pytest.mark.slow
def test_ctrl_c_on_leaving_shows_what_was_not_delivered() -> None:
    with Stage() as stage, Terminal(stage.url) as client:
        stage.wait_for_client()
        client.wait_for_line(">.*")
        client.type("not answered\r")
        client.wait_for_line("… not answered")
        client.type("\x04")
        wait_for(lambda: not any(line.startswith(">") for line in client.lines()))
        client.signal(signal.SIGINT)
        assert client.exit_code() == 1
        client.wait_for_line("Not delivered: 1 of your messages.")


def test_the_end_of_the_connection_is_shown_before_undelivered_messages() -> None:
    with Stage() as stage, Screen(stage.url) as client:
        stage.wait_for_client()
        client.wait_for_line(">.*")
        client.type("one\rhalf")
        client.wait_for_line("… one")
        client.wait_for_line("> half")
        stage.close(1008, "not here")
        assert client.exit_code() == 1
        assert client.lines()[-4:] == [
            "The server closed the connection, 1008 (policy violation): not here",
            "Not delivered: 1 of your messages.",
            "    one",
            "Not sent: half",
        ]


def test_a_typed_line_is_kept_when_the_server_closes() -> None:
    with Stage() as stage, Screen(stage.url) as client:
        stage.wait_for_client()
        client.wait_for_line(">.*")
        client.type("half a thought")
        client.wait_for_line("> half a thought")
        stage.close(1008, "not here")
        assert client.exit_code() == 1
        client.wait_for_line("The server closed the connection, 1008 .*: not here")
        client.wait_for_line("Not sent: half a thought")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_client_cleanly(number: signal.Signals) -> None:
    codes: list[int | None] = []

    def handler(websocket: WebSocket) -> None:
        list(websocket)
        codes.append(websocket.close_code)

    with serve(handler) as server, Terminal(f"ws://127.0.0.1:{server.port}") as client:
        client.wait_for_line(">.*")
        client.signal(number)
        assert client.exit_code() == 0
        wait_for(lambda: codes)
        assert "Traceback" not in client.written.decode()
    assert codes == [1000]


def test_closing_the_terminal_ends_the_client() -> None:
    codes: list[int | None] = []

    def handler(websocket: WebSocket) -> None:
        list(websocket)
        codes.append(websocket.close_code)

    with serve(handler) as server, Terminal(f"ws://127.0.0.1:{server.port}") as client:
        client.wait_for_line(">.*")
        client.hang_up()
        wait_for(lambda: codes)
    assert codes == [1000]
