"""The client at a terminal: sending and receiving."""

from __future__ import annotations

import re
import threading

from syncchat import ChatServer
from syncchat.net import WebSocket, serve
from syncchat.terminal import Preferences
from tests.people import GREETING
from tests.processes import Terminal
from tests.screen import Screen
from tests.stage import Stage


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
        for screen in (anna, bert):
            # The own line is shown once, as the server sends it.
            said = [line for line in screen.lines() if "hallo" in line or "ebenso" in line]
            assert [line.partition(": ")[2] for line in said] == ["hallo, grüß dich", "ebenso"]


def test_the_typed_line_is_never_broken() -> None:
    with (
        ChatServer(port=0) as chat,
        Screen(f"ws://127.0.0.1:{chat.port}") as client,
    ):
        client.wait_for_line(">.*")
        client.type("half a sent")
        client.wait_for_line("> half a sent")
        for number in range(200):
            chat.say(f"message {number}")
        client.wait_for_line("server: message 199")
        client.wait_for_line("> half a sent")
        assert client.lines()[-2] == "> half a sent"
        # Every line of the flood is complete, and none contains the input.
        flood = client.scrollback()
        assert flood == [
            "Connected to the chat!",
            GREETING,
            *(f"server: message {number}" for number in range(200)),
        ]
        client.type("ence\r")
        client.wait_for_line(r"127\.0\.0\.1:\d+: half a sentence")


def test_typing_continues_while_messages_arrive() -> None:
    text = "the quick brown fox jumps over the lazy dog"
    stop = threading.Event()
    with ChatServer(port=0) as chat, Screen(f"ws://127.0.0.1:{chat.port}") as client:
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


def test_invalid_utf8_from_the_keyboard_does_no_harm() -> None:
    heard: list[object] = []

    def handler(websocket: WebSocket) -> None:
        heard.extend(websocket)

    with serve(handler) as server, Screen(f"ws://127.0.0.1:{server.port}") as client:
        client.wait_for_line(">.*")
        client.type_bytes(b"a\xff\xfeb\r")
        client.wait_for_line("> a.*b")
        client.type("\x04")
        assert client.exit_code() == 0
    assert heard == ["a??b"]


def test_a_typed_line_precedes_its_echo_on_a_foreign_server() -> None:
    """Issue 13, item 3: even a line that begins with a slash, and always in this order."""

    def echo(websocket: WebSocket) -> None:
        websocket.send("hello")
        for message in websocket:
            assert isinstance(message, str)
            websocket.send(f"echo of {message}")

    said = [f"{'/' * (number % 2)}line {number}" for number in range(20)]
    with serve(echo) as server, Screen(f"ws://127.0.0.1:{server.port}", rows=60) as client:
        client.wait_for_line("hello")
        for text in said:
            client.type(f"{text}\r")
            client.wait_for_line(f"echo of {text}")
        shown = client.lines()
        begin = shown.index("hello") + 1
        wanted = [f"{mark}{text}" for text in said for mark in ("> ", "echo of ")]
        assert shown[begin : begin + len(wanted)] == wanted


def test_an_own_acknowledged_message_has_no_prefix() -> None:
    """Issue 13, item 3: the prefix marks lines of the server."""
    with ChatServer(port=0, notices=False, greeting="", echo=False) as chat:
        url = f"ws://127.0.0.1:{chat.port}"
        with Screen(url, nick="ann", preferences=Preferences(prefix="From server: ")) as client:
            client.wait_for_last(".*connected.*")
            client.type("mine\r")
            client.wait_for_line("ann: mine")
            chat.say("yours")
            client.wait_for_line("From server: server: yours")


def test_an_empty_line_is_not_sent() -> None:
    heard: list[object] = []

    def handler(websocket: WebSocket) -> None:
        heard.extend(websocket)

    with serve(handler) as server, Screen(f"ws://127.0.0.1:{server.port}") as client:
        client.wait_for_line(">.*")
        client.type("\r\rx\r\x04")
        assert client.exit_code() == 0
    assert heard == ["x"]


def test_a_message_is_pending_until_the_server_answers() -> None:
    with Stage() as stage, Screen(stage.url) as client:
        client.type("hello\r")
        client.wait_for_line("… hello")
        (said,) = stage.wait_for_said()
        assert said.nonce is not None
        stage.say(said.text, "ann", nonce=said.nonce)
        client.wait_for_line("ann: hello")
        client.wait_for_last(r" lobby \| ann \| 2 here \| connected .*")
        assert client.lines()[:2] == ["Connected to the chat!", "ann: hello"]
        assert "… hello" not in client.lines()
        client.type("\x04")
        assert client.exit_code() == 0


def test_several_clients_share_a_process() -> None:
    with Stage() as stage, Screen(stage.url) as one:
        stage.wait_for_client()
        with Screen(stage.url, columns=40, preferences=Preferences(prefix="> ")) as other:
            stage.wait_for_client(2)
            one.wait_for_line(">.*")
            other.wait_for_line(">.*")
            one.type("/bel\t")
            other.type("/cl\t")
            one.wait_for_line("> /bell")
            other.wait_for_line("> /clear")
            stage.say("for the second")
            other.wait_for_line("> bob: for the second")
