"""The client's connection, its reader thread and its inbox at unusual moments."""

from __future__ import annotations

import socket
import threading

import pytest
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, TextMessage

from syncchat import Client, ConnectionClosed, Line
from syncchat.chat.commands import HELP_TEXT
from syncchat.chat.events import SUBPROTOCOL, Welcome
from syncchat.client.events import Event
from syncchat.client.link import Link
from syncchat.client.protocol import Protocol
from syncchat.net import WebSocket, connect
from tests.peer import PATIENCE, InThread, Peer, wait_for
from tests.stage import Stage


def connect_to_chat(url: str, stop: threading.Event) -> WebSocket:
    return connect(url, subprotocols=[SUBPROTOCOL], stop=stop)


def test_a_full_inbox_takes_the_help_from_the_only_receiver() -> None:
    """More events than the inbox holds, and nobody else who receives."""
    with Stage() as stage, Client(f"ws://{stage.url}/") as client:
        assert isinstance(client.receive(PATIENCE), Welcome)

        def ask() -> None:
            for _ in range(10_001):
                client.send_line("/help")

        asking = InThread(ask)
        try:
            asking.result()
        finally:
            client.close()
        assert list(client) == [Line(HELP_TEXT)] * 10_001


def test_a_client_without_a_free_thread_stays_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def no_reader(thread: threading.Thread) -> None:
        if thread.name.startswith("syncchat-client "):
            raise RuntimeError("can't start new thread")
        start(thread)

    with Stage() as stage:
        client = Client(f"ws://{stage.url}/")
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", no_reader)
            with pytest.raises(RuntimeError, match="can't start new thread"):
                client.connect()
        # Neither the socket nor the I/O thread is left.
        wait_for(lambda: stage.clients and stage.clients[0].close_code is not None)
        wait_for(
            lambda: not any(each.name.startswith("syncchat-io ") for each in threading.enumerate())
        )
        client.close()
        with pytest.raises(RuntimeError, match="not connected"):
            client.receive(0)
        with client:
            assert isinstance(client.receive(PATIENCE), Welcome)


def test_an_internal_error_of_the_reader_closes_the_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Defective(Protocol):
        def received(self, message: str | bytes, now: float) -> list[Event]:
            raise AssertionError(f"cannot take {message!r} at {now}")

    died: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", died.append)
    with Stage() as stage:
        url = f"ws://{stage.url}/"
        link = Link(connect_to_chat, Defective(url, None, history=0), reconnect=True)
        link.open("defective")
        with pytest.raises(ConnectionClosed, match="internal error"):
            link.receive(PATIENCE)
        stage.wait_for_client()
        wait_for(lambda: stage.clients[0].close_code is not None)
        link.close(None)
    assert [args.exc_type for args in died] == [AssertionError]


def test_a_ping_that_meets_a_close_does_not_end_the_reading() -> None:
    class Pinging(Protocol):
        """Finds that a ping is due, and the link is closed before the ping is sent."""

        def check(self, now: float, heard_at: float) -> tuple[float, bool]:
            again_at, _ = super().check(now, heard_at)
            link.begin_close()
            return again_at, True

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(PATIENCE)
        url = f"ws://127.0.0.1:{listening.getsockname()[1]}/"
        link = Link(connect_to_chat, Pinging(url, None, history=0), reconnect=True)
        opening = InThread(lambda: link.open("pinging"))
        sock, _ = listening.accept()
        with Peer.server(sock) as peer:
            opening.result()
            close = peer.expect(CloseConnection)
            server = Connection(ConnectionType.SERVER)
            peer.send_bytes(server.send(TextMessage(data="the last words")))
            peer.send(close.response())
            assert link.receive(PATIENCE) == Line("the last words")
            with pytest.raises(ConnectionClosed) as caught:
                link.receive(PATIENCE)
            assert caught.value.code == 1000
        link.close(None)


def test_only_one_thread_at_a_time_connects() -> None:
    trying, go_on = threading.Event(), threading.Event()

    def slowly(url: str, stop: threading.Event) -> WebSocket:
        trying.set()
        assert go_on.wait(PATIENCE)
        return connect_to_chat(url, stop)

    with Stage() as stage:
        url = f"ws://{stage.url}/"
        link = Link(slowly, Protocol(url), reconnect=False)
        first = InThread(lambda: link.open("first"))
        try:
            assert trying.wait(PATIENCE)
            with pytest.raises(RuntimeError, match="already connected"):
                link.open("second")
        finally:
            go_on.set()
        first.result()
        assert isinstance(link.receive(PATIENCE), Welcome)
        link.close(PATIENCE)
        link.open("third")
        link.close(PATIENCE)
