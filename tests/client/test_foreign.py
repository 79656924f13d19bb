"""Foreign servers, which accept every subprotocol but send plain lines."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from syncchat import ChatServer, Client, Disconnected, Line, NotConnected, Sent, __version__
from syncchat.chat.events import (
    VERSION_HEADER,
    Ack,
    Error,
    Join,
    Message,
    NamesRequest,
    Say,
    Welcome,
    decode_from_client,
    encode,
)
from syncchat.client import Event
from syncchat.errors import ConnectionClosed
from syncchat.net import WebSocket, connect, serve
from tests.peer import PATIENCE, wait_for
from tests.processes import CLIENT, Script, run
from tests.screen import Screen
from tests.stage import welcome

Handler = Callable[[WebSocket], None]


class Mirror:
    """Serves with a handler, and accepts the subprotocol of syncchat."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.heard: list[str | bytes] = []
        self.url = ""

    def hear(self, websocket: WebSocket, *, answer: str | None = None) -> None:
        """Receive until the end, and send the configured answers."""
        for message in websocket:
            self.heard.append(message)
            if answer is not None:
                websocket.send(answer.format(message))


@contextmanager
def mirroring(handler: Callable[[Mirror, WebSocket], None]) -> Iterator[Mirror]:
    mirror = Mirror(lambda websocket: handler(mirror, websocket))
    with serve(mirror.handler, subprotocols=["syncchat.v1"]) as server:
        mirror.url = f"ws://127.0.0.1:{server.port}/"
        yield mirror


def until(client: Client, kind: type) -> list[Event]:
    """The events up to one of that kind, that included."""
    events: list[Event] = []
    while not any(isinstance(event, kind) for event in events):
        events.append(client.receive(PATIENCE))
    return events


def greets(mirror: Mirror, websocket: WebSocket) -> None:
    websocket.send(b"binary messages tell nothing")
    websocket.send("hello")
    mirror.hear(websocket, answer="{}")


def echoes(mirror: Mirror, websocket: WebSocket) -> None:
    mirror.hear(websocket, answer="{}")


def is_silent(mirror: Mirror, websocket: WebSocket) -> None:
    mirror.hear(websocket)


def greets_late(mirror: Mirror, websocket: WebSocket) -> None:
    time.sleep(1.3)
    greets(mirror, websocket)


@pytest.mark.parametrize("handler", [greets, echoes, is_silent, greets_late])
def test_a_server_that_mirrors_the_subprotocol_gets_plain_lines(
    handler: Callable[[Mirror, WebSocket], None],
) -> None:
    """Issue 13, item 1: messages are sent and received, and nothing hangs."""
    with mirroring(handler) as mirror, Client(mirror.url) as client:
        # Sent before or after the dialect is known.
        client.say("/etc/hosts")
        client.act("waves")
        client.send_line("as typed")
        client.join("ops")
        client.flush(PATIENCE)
        wait_for(lambda: len(mirror.heard) == 4)
        wanted = ["//etc/hosts", "/me waves", "as typed", "/join ops"]
        assert mirror.heard == wanted
        assert client.connected
        assert client.room is client.nick is None
        assert client.unacknowledged == 0
        with pytest.raises(NotConnected, match="plain lines"):
            client.ask(NamesRequest())
        # After the dialect is known.
        assert client.say("later") is None
        client.send_line("/names")
        client.flush(PATIENCE)
        wait_for(lambda: len(mirror.heard) == 6)
        client.leave(PATIENCE)
        lines = [event.text for event in client if isinstance(event, Line)]
    assert mirror.heard[4:] == ["later", "/names"]
    echo = [] if handler is is_silent else [*wanted, "later", "/names"]
    greeting = ["hello"] if handler in (greets, greets_late) else []
    assert lines == greeting + echo


def test_a_text_sent_before_the_dialect_is_known_is_reported_as_sent() -> None:
    """Issue 13, item 1: it has a nonce, and ``Sent`` precedes the answer."""
    with mirroring(echoes) as mirror, Client(mirror.url, reconnect=False) as client:
        nonces = [client.say("one"), client.say("two")]
        assert client.unacknowledged == 2
        assert None not in nonces
        told = [client.receive(PATIENCE) for _ in range(4)]
        assert [event for event in told if isinstance(event, Sent)] == [
            Sent(nonce) for nonce in nonces if nonce
        ]
        assert told.index(Sent(str(nonces[0]))) < told.index(Line("one"))


def test_a_command_is_refused_while_the_servers_commands_are_not_known() -> None:
    """Issue 13, item 1: it is neither lost nor reported as an error."""
    with mirroring(is_silent) as mirror, Client(mirror.url, reconnect=False) as client:
        with pytest.raises(NotConnected):
            client.send_line("/spin")
        with pytest.raises(NotConnected):
            client.send_line("/names")
        wait_for(lambda: client.connected)
        client.send_line("/spin")
        wait_for(lambda: mirror.heard == ["/spin"])


def test_a_late_welcome_is_accepted() -> None:
    """Issue 13, item 1: a slow server of our own gets as events what it refused as lines."""
    heard: list[object] = []
    release = threading.Event()

    def handler(mirror: Mirror, websocket: WebSocket) -> None:
        release.wait(PATIENCE)
        websocket.send(encode(welcome()))
        for text in websocket:
            mirror.heard.append(text)
            try:
                event = decode_from_client(str(text))
            except Exception:
                websocket.send(encode(Error("malformed", "This is no event.")))
                continue
            heard.append(event)
            if isinstance(event, Say):
                websocket.send(encode(Message(len(heard), 0.0, "ann", event.text, "message",
                                              event.nonce)))  # fmt: skip

    with mirroring(handler) as mirror, Client(mirror.url, reconnect=False) as client:
        one = client.say("one")
        # Until it counts as a plain server.
        wait_for(lambda: client.connected)
        client.flush(PATIENCE)
        two = client.say("two")
        # This text is an event to our server, so it waits.
        client.say('{"type":"say","text":"three"}')
        client.join("ops")
        release.set()
        wait_for(lambda: len(heard) == 4)
        assert [event.text for event in heard if isinstance(event, Say)] == [
            "one", "two", '{"type":"say","text":"three"}',
        ]  # fmt: skip
        assert heard[3] == Join("ops")
        assert mirror.heard[:2] == ["one", "two"]
        told = [client.receive(PATIENCE) for _ in range(5)]
        assert told[0] == Sent(str(one))
        assert two is None
        assert isinstance(told[1], Welcome)
        # The refusals of the lines are not shown.
        assert all(isinstance(event, Message) for event in told[2:])
        assert client.room == "lobby"


def test_an_error_before_the_welcome_is_an_event_and_not_a_line() -> None:
    """Issue 13, item 1: our server sends the reason before it closes."""
    refusal = Error("room", "Too many rooms.")

    def handler(_mirror: Mirror, websocket: WebSocket) -> None:
        websocket.send(encode(refusal))
        websocket.close(1008, "no")

    with mirroring(handler) as mirror, Client(mirror.url) as client:
        assert client.receive(PATIENCE) == refusal
        with pytest.raises(ConnectionClosed, match="1008"):
            client.receive(PATIENCE)


def test_a_message_in_doubt_is_not_sent_again_as_a_plain_line() -> None:
    """Issue 13, item 1: a different server after a reconnect knows no nonces."""
    connections = 0

    def handler(mirror: Mirror, websocket: WebSocket) -> None:
        nonlocal connections
        connections += 1
        if connections == 1:
            websocket.send(encode(welcome()))
            websocket.recv()
            websocket.abort()
        else:
            websocket.send("hello")
            mirror.hear(websocket)

    with mirroring(handler) as mirror, Client(mirror.url) as client:
        nonce = client.say("in doubt")
        until(client, Disconnected)
        client.say("fresh")
        client.flush(PATIENCE)
        wait_for(lambda: mirror.heard)
        assert mirror.heard == ["fresh"]
        (error,) = [event for event in until(client, Line) if isinstance(event, Error)]
        assert (error.code, error.nonce) == ("unavailable", nonce)


def test_many_texts_sent_before_the_dialect_is_known_are_delivered() -> None:
    """Issue 13, item 1: more than the default limit of the backlog."""
    texts = [f"{number} {'x' * 60_000}" for number in range(60)]

    def handler(mirror: Mirror, websocket: WebSocket) -> None:
        time.sleep(1.5)
        mirror.hear(websocket)

    with mirroring(handler) as mirror, Client(mirror.url, reconnect=False) as client:
        for text in texts:
            client.say(text)
        client.flush(PATIENCE)
        wait_for(lambda: len(mirror.heard) == len(texts))
        assert mirror.heard == texts


# The pipe and the terminal.


@pytest.mark.parametrize("handler", [greets, echoes, is_silent, greets_late])
def test_a_pipe_to_a_server_that_mirrors_the_subprotocol_ends(
    handler: Callable[[Mirror, WebSocket], None],
) -> None:
    """Issue 13, item 1: for example ``echo hi | client`` with a Node server."""
    with mirroring(handler) as mirror:
        result = run([*CLIENT, mirror.url], "hi\nand hi again\n")
        assert (result.returncode, result.stderr) == (0, "Connected to the chat!\n")
        assert mirror.heard == ["hi", "and hi again"]
        echo = "" if handler is is_silent else "hi\nand hi again\n"
        # A pipe leaves when all is sent, and misses later messages.
        assert result.stdout in (echo, f"hello\n{echo}", "")
        assert handler is not greets or result.stdout.startswith("hello\n")


def test_a_pipe_shows_the_lines_of_such_a_server_as_they_come() -> None:
    """Issue 13, item 1: as events, too."""
    with mirroring(greets) as mirror, Script([*CLIENT, "--json", mirror.url]) as client:
        assert json.loads(client.wait_for_line(".*hello.*")) == {"type": "line", "text": "hello"}
        client.type("one\n")
        client.wait_for_line(r'.*"one".*')
        client.end_input()
        assert client.exit_code() == 0


def test_a_terminal_shows_its_own_lines_to_such_a_server() -> None:
    """Issue 13, item 1: even what is typed before the server's dialect is known."""
    with mirroring(echoes) as mirror, Screen(mirror.url) as screen:
        screen.wait_for_line(">.*")
        screen.type("at once\r")
        wait_for(lambda: screen.lines()[1:3] == ["> at once", "at once"])
        screen.type("later\r")
        screen.wait_for_line("later")
        screen.type("/spin round\r")
        screen.wait_for_line("/spin round")
        wait_for(lambda: mirror.heard == ["at once", "later", "/spin round"])
        assert not any(line.startswith("…") for line in screen.lines())
        screen.type("\x04")
        assert screen.exit_code() == 0
        assert "Not delivered" not in "\n".join(screen.lines())


@pytest.mark.slow
def test_a_server_with_our_header_never_counts_as_plain() -> None:
    """Issue 13, item 1: its welcome may take longer than a second; nothing is lost."""
    heard: list[str | bytes] = []
    go_on = threading.Event()

    def late(websocket: WebSocket) -> None:
        go_on.wait(PATIENCE)
        websocket.send(encode(welcome()))
        for offset, message in enumerate(websocket, 1):
            heard.append(message)
            said = decode_from_client(str(message))
            assert isinstance(said, Say)
            websocket.send(encode(Ack(said.nonce or "", offset, "e")))

    known = [(VERSION_HEADER, "1")]
    with serve(late, subprotocols=["syncchat.v1"], response_headers=known) as server:
        url = f"ws://127.0.0.1:{server.port}/"
        with Client(url) as client:
            client.say("one")
            with pytest.raises(TimeoutError):
                client.flush(1.5)
            assert (client.unacknowledged, heard) == (1, [])
            go_on.set()
            client.flush(PATIENCE)
            assert len(heard) == 1
        go_on.clear()
        timer = threading.Timer(1.5, go_on.set)
        timer.start()
        result = run([*CLIENT, url], "two\nthree\n")
        timer.join()
        assert result.returncode == 0, result.stderr
        assert len(heard) == 3


def test_our_server_sends_its_version_header() -> None:
    """Issue 13, item 1."""
    with ChatServer(port=0) as chat, connect(f"ws://127.0.0.1:{chat.port}/") as websocket:
        assert websocket.response_headers[VERSION_HEADER.lower()] == __version__
