"""A silently dead connection is noticed soon if an answer is due, and never wrongly."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import ExitStack

import pytest

from syncchat import ChatServer, Client, Disconnected
from syncchat.chat.events import (
    VERSION_HEADER,
    Ack,
    Message,
    Say,
    Welcome,
    decode_from_client,
    encode,
)
from syncchat.client.protocol import Protocol
from syncchat.client.reconnect import Liveness
from syncchat.errors import ConnectionClosed
from syncchat.net import WebSocket, serve
from tests.peer import wait_for
from tests.people import Json, url_of
from tests.processes import CLIENT, Script, Terminal
from tests.proxy import Proxy
from tests.stage import Stage, welcome

#: Seconds until a dead connection is noticed, and slack for a busy machine.
NOTICED, SLACK = 10.0, 10.0


@pytest.mark.slow
def test_a_dead_connection_is_noticed_in_ten_seconds_if_an_acknowledgement_is_due() -> None:
    """Issue 13, item 13: by a program, a pipe and a terminal; nothing is lost."""
    with (
        ChatServer(port=0, notices=False, rate=0, ping_interval=0) as chat,
        Proxy(chat.port) as proxy,
        ExitStack() as stack,
    ):
        url = f"ws://127.0.0.1:{proxy.port}/"
        client = stack.enter_context(Client(url, nick="program"))
        pipe = stack.enter_context(Script([*CLIENT, "--nick", "pipe", url]))
        screen = stack.enter_context(Terminal(url, "--nick", "terminal"))
        pipe.type("before\n")
        screen.type("before\r")
        heard: set[str] = set()
        while heard != {"pipe", "terminal"}:
            event = client.receive(NOTICED)
            if isinstance(event, Message):
                heard.add(event.nick)
        proxy.swallow()
        begin = time.monotonic()
        client.say("meanwhile")
        pipe.type("meanwhile\n")
        screen.type("meanwhile\r")
        screen.type("/msg program psst\r")
        event = client.receive(NOTICED + SLACK)
        while not isinstance(event, Disconnected):
            event = client.receive(NOTICED + SLACK)
        took = time.monotonic() - begin
        print(f"a cut line: noticed after {took:.1f} s")
        assert NOTICED / 2 < took < NOTICED + SLACK
        assert event == Disconnected(1006, "no response")
        gone = "The connection to the server was lost (no response)."
        pipe.wait_for_line(gone.replace("(", r"\(").replace(")", r"\)"), errors=True)
        screen.wait_for_line(gone.replace("(", r"\(").replace(")", r"\)"))
        client.flush(NOTICED + SLACK)
        screen.wait_for_line("-> Perhaps not delivered to program: psst")
        screen.wait_for_line("terminal: meanwhile")
        pipe.wait_for_line("pipe: meanwhile")
        with Json(url_of(chat, "/?history=9")) as judge:
            judge.event("welcome")
            said = [(m["nick"], m["text"]) for m in judge.event("history")["messages"]]
            assert sorted(said) == [
                ("pipe", "before"),
                ("pipe", "meanwhile"),
                ("program", "meanwhile"),
                ("terminal", "before"),
                ("terminal", "meanwhile"),
            ]
        pipe.end_input()
        assert pipe.exit_code() == 0


def test_a_server_that_does_not_answer_a_private_message_is_pinged() -> None:
    protocol = Protocol("ws://127.0.0.1/")
    protocol.opened("syncchat.v1", {}, 0.0)
    protocol.received(encode(welcome()), 1.0)
    assert protocol.check(2.0, 1.0) == (7.0, False)
    protocol.asked(3.0)
    assert protocol.check(7.0, 1.0) == (8.0, False)
    assert protocol.check(8.0, 1.0) == (12.0, True)
    # Whatever the server says next, it is alive.
    protocol.received(encode(Ack("1", 1, "e")), 9.0)
    assert protocol.check(12.0, 9.0) == (17.0, False)


def test_after_a_sleep_the_server_is_asked_at_once() -> None:
    """Issue 20: although it owes nothing; an answer ends the suspicion."""
    for answered in (True, False):
        line = Liveness()
        assert line.check(0.0, 0.0, None, 0.0) == (5.0, False)
        line.woke(5.0)
        assert line.check(5.0, 0.0, None, 0.0) == (9.0, True)
        assert line.check(6.0, 0.0, None, 0.0) == (9.0, False)
        if answered:
            assert line.check(9.0, 8.0, None, 0.0) == (14.0, False)
        else:
            with pytest.raises(ConnectionClosed, match="no response"):
                line.check(9.0, 0.0, None, 0.0)


@pytest.mark.slow
def test_a_line_that_died_during_a_sleep_is_noticed_soon_after_it() -> None:
    """Issue 20: although nothing is unacknowledged."""
    with (
        ChatServer(port=0, notices=False, ping_interval=0) as chat,
        Proxy(chat.port) as proxy,
        Script([*CLIENT, "--nick", "pipe", f"ws://127.0.0.1:{proxy.port}/"]) as pipe,
    ):
        pipe.type("before\n")
        wait_for(chat.history)
        proxy.swallow()
        pipe.signal(signal.SIGSTOP)
        # Longer than the time between two checks of the client, and what they may be late.
        time.sleep(NOTICED + 1)
        pipe.signal(signal.SIGCONT)
        begin = time.monotonic()
        pipe.wait_for_line(r"The connection to the server was lost \(no response\).", errors=True)
        took = time.monotonic() - begin
        print(f"after waking: noticed after {took:.1f} s")
        assert took < NOTICED
        pipe.type("after\n")
        wait_for(lambda: len(chat.history()) == 2)
        pipe.end_input()
        assert pipe.exit_code() == 0


def breaks_of(client: Client, until: threading.Event, found: list[object]) -> None:
    """Collect disconnects and messages, until the client is closed."""
    while not until.is_set():
        try:
            event = client.receive(0.1)
        except TimeoutError:
            continue
        except ConnectionClosed as exc:
            found.append(exc)
            return
        if isinstance(event, Disconnected | Message):
            found.append(event)


@pytest.mark.slow
@pytest.mark.timeout(90)
def test_a_slow_server_does_not_count_as_dead() -> None:
    """Issue 13, item 13: with a rate limit, fast or slow, and with a server that never
    acknowledges.
    """
    stop = threading.Event()
    with ExitStack() as stack:
        # Nine messages per second fewer than are sent; one in five seconds; none.
        ten = stack.enter_context(ChatServer(port=0, notices=False, rate=10, burst=1))
        few = stack.enter_context(ChatServer(port=0, notices=False, rate=0.2, burst=1))
        mute = stack.enter_context(Stage())
        urls = [url_of(ten), url_of(few), f"ws://{mute.url}/"]
        clients = [stack.enter_context(Client(url)) for url in urls]
        found: list[list[object]] = [[], [], []]
        threads = []
        stack.callback(stop.set)
        for client, numbers, notes in zip(clients, [900, 4, 1], found, strict=True):
            while not isinstance(client.receive(10.0), Welcome):
                continue
            for number in range(numbers):
                client.say(str(number))
            thread = threading.Thread(target=breaks_of, args=(client, stop, notes))
            thread.start()
            stack.callback(thread.join)
            threads.append(thread)
        end = time.monotonic() + 2 * NOTICED
        while time.monotonic() < end:
            time.sleep(0.1)
            for notes in found:
                assert not any(isinstance(each, Disconnected | Exception) for each in notes)
        assert clients[0].unacknowledged > 0
        assert clients[1].unacknowledged == 0
        assert clients[2].unacknowledged == 1
        assert len(found[1]) == 4
        assert len(mute.clients) == 1
        stop.set()
        for thread in threads:
            thread.join()
        for client in clients:
            client.close(0)


@pytest.mark.slow
def test_a_connection_that_dies_before_the_welcome_is_noticed() -> None:
    """Issue 13, item 13: if a message is unacknowledged, even while the room is being entered."""
    over = threading.Event()
    connections: list[WebSocket] = []

    def handler(websocket: WebSocket) -> None:
        connections.append(websocket)
        if len(connections) == 1:
            # It does not read at all, so it answers no ping.
            over.wait(4 * NOTICED)
            return
        websocket.send(encode(welcome()))
        for message in websocket:
            said = decode_from_client(str(message))
            assert isinstance(said, Say)
            websocket.send(encode(Ack(said.nonce or "", 1, "e")))

    known = [(VERSION_HEADER, "1")]
    with (
        serve(handler, subprotocols=["syncchat.v1"], response_headers=known) as server,
        Client(f"ws://127.0.0.1:{server.port}/") as client,
    ):
        begin = time.monotonic()
        client.say("hello")
        assert client.receive(NOTICED + SLACK) == Disconnected(1006, "no response")
        assert time.monotonic() - begin > NOTICED / 2
        over.set()
        client.flush(NOTICED + SLACK)
