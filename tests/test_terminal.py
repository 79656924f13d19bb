"""The client at a terminal: what the screen shows."""

from __future__ import annotations

import re
import socket
import threading
from contextlib import ExitStack

from syncchat import ChatServer, Client
from syncchat.net import WebSocket, serve
from tests.peer import PATIENCE, wait_for
from tests.people import line
from tests.processes import Terminal

GREETING = "Welcome to chat! Type a message"


def test_two_people_talk() -> None:
    with (
        ChatServer(port=0) as chat,
        Terminal(f"ws://127.0.0.1:{chat.port}") as anna,
        Terminal(f"ws://127.0.0.1:{chat.port}") as bert,
    ):
        for screen in (anna, bert):
            screen.wait_for_line(re.escape(GREETING))
            screen.wait_for_line(">.*")
        anna.type("hallo, grüß dich\r")
        for screen in (anna, bert):
            screen.wait_for_line(r"127\.0\.0\.1:\d+: hallo, grüß dich")
        bert.type("ebenso\r")
        for screen in (anna, bert):
            screen.wait_for_line(r"127\.0\.0\.1:\d+: ebenso")
        lines = [line for line in anna.lines() if "hallo" in line or "ebenso" in line]
        assert [line.partition(": ")[2] for line in lines[-2:]][1] == "ebenso"


def test_what_is_being_typed_is_never_torn() -> None:
    with (
        ChatServer(port=0) as chat,
        Terminal(f"ws://127.0.0.1:{chat.port}") as client,
    ):
        client.wait_for_line(">.*")
        client.type("half a sent")
        client.wait_for_line("> half a sent")
        for number in range(200):
            chat.say(f"message {number}")
        client.wait_for_line("server: message 199")
        client.wait_for_line("> half a sent")
        assert client.lines()[-1] == "> half a sent"
        # Every line of the flood is whole, and the input stands in none of them.
        flood = client.lines()[:-1]
        assert flood == [f"server: message {number}" for number in range(200 - len(flood), 200)]
        client.type("ence\r")
        client.wait_for_line(r"127\.0\.0\.1:\d+: half a sentence")


def test_typing_goes_on_while_messages_come() -> None:
    text = "the quick brown fox jumps over the lazy dog"
    stop = threading.Event()
    with ChatServer(port=0) as chat, Terminal(f"ws://127.0.0.1:{chat.port}") as client:
        client.wait_for_line(">.*")

        def flood() -> None:
            number = 0
            while not stop.wait(0.005):
                number += 1
                chat.say(f"noise {number}")

        noise = threading.Thread(target=flood)
        noise.start()
        try:
            for char in text:
                client.type(char)
                client.lines()
            client.wait_for_line("> " + text)
            client.type("\r")
            client.wait_for_line(rf"127\.0\.0\.1:\d+: {text}")
        finally:
            stop.set()
            noise.join()


def test_the_window_can_be_resized() -> None:
    with (
        ChatServer(port=0) as chat,
        Terminal(f"ws://127.0.0.1:{chat.port}") as client,
    ):
        client.wait_for_line(">.*")
        client.type("abc")
        client.wait_for_line("> abc")
        client.resize(40, 10)
        chat.say("narrow")
        client.wait_for_line("server: narrow")
        client.wait_for_line("> abc")
        client.type("d\r")
        client.wait_for_line(r"127\.0\.0\.1:\d+: abcd")


def test_nothing_a_stranger_sends_drives_the_terminal() -> None:
    attacks = [
        "\x1b]0;title\x07", "\x1b]52;c;AAAA\x07", "\x9b31m", "\x1b[2J\x1b[H", "\x1bP$q q\x1b\\",
        "\u202etxt.exe", "\x01\x1b[31m\x02", "a\bb\rc", "\x7f\x85\u2028\u2029\U000e0041",
    ]  # fmt: skip
    release = threading.Event()

    def handler(websocket: WebSocket) -> None:
        for attack in attacks:
            websocket.send(attack)
        websocket.send("after all")
        release.wait(PATIENCE)
        websocket.close(4000, "reason \x1b[31m")

    with (
        serve(handler) as server,
        Terminal(f"ws://127.0.0.1:{server.port}", "--no-reconnect") as client,
    ):
        client.wait_for_line("after all")
        client.wait_for_line(">.*")
        release.set()
        assert client.exit_code() == 1
        client.wait_for_line(r"The server has closed the connection, 4000: reason \[31m")
        written = client.written.decode()
        for harmful in ("\x1b]", "\x07", "\x9b", "\x1bP", "\x1b[31m", "\u202e", "\x01", "\x85"):
            assert harmful not in written, repr(harmful)
        assert "abc\r\n" in written
        # "[2J" arrived as text, not as the command to wipe the screen.
        assert "[2J[H" in written
        assert "\x1b[2J[" not in written


def test_a_continuation_line_is_set_in() -> None:
    def handler(websocket: WebSocket) -> None:
        websocket.send("one\nroot: two")
        list(websocket)

    with serve(handler) as server, Terminal(f"ws://127.0.0.1:{server.port}") as client:
        client.wait_for_line("one")
        client.wait_for_line("    root: two")


def test_a_pasted_text_of_several_lines_is_one_message() -> None:
    heard: list[object] = []

    def handler(websocket: WebSocket) -> None:
        heard.extend(websocket)

    with serve(handler) as server, Terminal(f"ws://127.0.0.1:{server.port}") as client:
        client.wait_for_line(">.*")
        client.type("\x1b[200~one\ntwo\x1b[201~")
        client.wait_for_line("> one.*")
        client.type("\r\x04")
        assert client.exit_code() == 0
    assert heard == ["one\ntwo"]


def test_keys_that_are_no_utf8_do_no_harm() -> None:
    heard: list[object] = []

    def handler(websocket: WebSocket) -> None:
        heard.extend(websocket)

    with serve(handler) as server, Terminal(f"ws://127.0.0.1:{server.port}") as client:
        client.wait_for_line(">.*")
        client.type_bytes(b"a\xff\xfeb\r")
        client.wait_for_line("> a.*b")
        client.type("\x04")
        assert client.exit_code() == 0
    assert heard == ["a??b"]


def test_leaving_is_a_proper_close() -> None:
    codes: list[int | None] = []

    def handler(websocket: WebSocket) -> None:
        list(websocket)
        codes.append(websocket.close_code)

    with serve(handler) as server:
        for keys in ("\x03", "\x04", "/quit\r", "typed\x03"):
            with Terminal(f"ws://127.0.0.1:{server.port}") as client:
                client.wait_for_line(">.*")
                client.type(keys)
                assert client.exit_code() == 0
                assert "Traceback" not in client.written.decode()
        wait_for(lambda: len(codes) == 4)
    assert codes == [1000] * 4


def test_an_empty_line_is_not_sent() -> None:
    heard: list[object] = []

    def handler(websocket: WebSocket) -> None:
        heard.extend(websocket)

    with serve(handler) as server, Terminal(f"ws://127.0.0.1:{server.port}") as client:
        client.wait_for_line(">.*")
        client.type("\r\rx\r\x04")
        assert client.exit_code() == 0
    assert heard == ["x"]


def test_a_server_that_ends_it_in_order_is_exit_code_0() -> None:
    with (
        serve(lambda websocket: websocket.send("bye")) as server,
        Terminal(f"ws://127.0.0.1:{server.port}") as client,
    ):
        assert client.exit_code() == 0
        client.wait_for_line("bye")
        client.wait_for_line(r"The server has closed the connection\.")


def test_a_line_after_a_break_is_shown_and_one_during_it_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]

    def handler(websocket: WebSocket) -> None:
        for message in websocket:
            websocket.send(f"you said {message!s}")

    with ExitStack() as stack:
        with serve(handler, port=port):
            client = stack.enter_context(Terminal(f"ws://127.0.0.1:{port}"))
            client.type("one\r")
            client.wait_for_line("you said one")
        client.wait_for_line("The server is gone: .*")
        client.type("two\r")
        client.wait_for_line("-> there is no connection at the moment")
        with serve(handler, port=port) as again:
            wait_for(lambda: again.connections)
            client.wait_for_line("Connected to the chat again!")
            client.type("three\r")
            client.wait_for_line("you said three")


def test_what_was_typed_and_not_delivered_is_told_on_leaving() -> None:
    with ExitStack() as stack:
        with ChatServer(port=0) as chat:
            client = stack.enter_context(Terminal(f"ws://127.0.0.1:{chat.port}"))
            client.type("delivered\r")
            client.wait_for_line(r"127\.0\.0\.1:\d+: delivered")
            client.type("/join ops\r")
            client.wait_for_line("-> You are in ops now.")
        client.wait_for_line("The server is gone: .*")
        client.type("not delivered\r   \r")
        client.wait_for_line("> not delivered")
        client.type("\x04")
        assert client.exit_code() == 1
        client.wait_for_line("Not delivered: 1 of your messages.")


def test_what_was_typed_last_is_delivered_before_one_leaves() -> None:
    with ChatServer(port=0, notices=False) as chat:
        with Terminal(f"ws://127.0.0.1:{chat.port}") as client:
            client.wait_for_line(">.*")
            client.type("last words\r\x04")
            assert client.exit_code() == 0
        with Client(f"ws://127.0.0.1:{chat.port}", history=1) as late:
            assert line(late) == GREETING
            assert line(late).endswith(": last words")
