"""Conversations that begin, go on and end without a thread of their own."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from wsproto import ConnectionType
from wsproto.events import CloseConnection, TextMessage

from syncchat.closecodes import GOING_AWAY, INTERNAL_ERROR, NORMAL
from syncchat.net import Later, Server, WebSocket, serve
from tests.peer import PATIENCE, Peer, read_all, read_head, upgrade_request, wait_for

pytestmark = pytest.mark.skipif(not hasattr(select, "epoll"), reason="only with epoll")


class Conversation:
    """Echoes messages without a thread, and those that begin with ``/`` on its thread.

    The name of a method in the URL's path makes that method raise an exception.
    """

    def __init__(self, websocket: WebSocket, log: list[str]) -> None:
        self._websocket = websocket
        self._failing = websocket.request.path[1:]
        self._log = log
        self._note("made")

    def _note(self, what: str) -> None:
        self._log.append(what)
        if what == self._failing:
            raise ZeroDivisionError

    def blocks(self) -> bool:
        return self._failing == "thread"

    def begin(self) -> bool:
        self._note("begin")
        return True

    def take(self, messages: Sequence[str | bytes], _later: Later, /) -> int:
        self._note("take")
        for at, message in enumerate(messages):
            assert isinstance(message, str)
            if message.startswith("/"):
                return at
            self._websocket.send(message)
        return len(messages)

    def run(self) -> None:
        self._note("run")
        while True:
            for message in self._websocket.recv_many(take=self.take):
                self._websocket.send(f"{threading.current_thread().name}: {message!r}")

    def end(self) -> None:
        self._note("end")


@contextmanager
def serving(**settings: Any) -> Iterator[tuple[Server, list[str]]]:
    log: list[str] = []

    def converse(websocket: WebSocket) -> Conversation:
        return Conversation(websocket, log)

    with serve(None, converse=converse, ping_interval=None, **settings) as server:
        yield server, log


def connection_threads() -> list[str]:
    names = (thread.name for thread in threading.enumerate())
    return [name for name in names if name.startswith("syncchat 127.0.0.1:")]


def test_a_whole_conversation_takes_no_thread() -> None:
    with serving() as (server, log):
        with Peer.client(server.port) as peer:
            for text in ("one", "two"):
                peer.send(TextMessage(data=text))
                assert peer.expect(TextMessage).data == text
            assert connection_threads() == []
            peer.send(CloseConnection(code=NORMAL))
            assert peer.expect(CloseConnection).code == NORMAL
            assert peer.sock.recv(1) == b""
        wait_for(lambda: server.connections == 0)
        assert connection_threads() == []
        assert log == ["made", "begin", "take", "take", "end"]
        stats = server.stats()
        assert (stats.messages_in, stats.messages_out, stats.connections_total) == (2, 2, 1)


def test_a_client_that_is_cut_off_ends_its_conversation() -> None:
    with serving() as (server, log):
        with Peer.client(server.port) as peer:
            peer.send(TextMessage(data="x"))
            assert peer.expect(TextMessage).data == "x"
        wait_for(lambda: server.connections == 0)
        assert log[-1] == "end"
        assert connection_threads() == []


def test_a_thread_starts_when_it_is_needed() -> None:
    with serving() as (server, log):
        with Peer.client(server.port) as peer:
            host, port = peer.sock.getsockname()
            peer.send(TextMessage(data="one"), TextMessage(data="/two"))
            assert peer.expect(TextMessage).data == "one"
            assert peer.expect(TextMessage).data == f"syncchat {host}:{port}: '/two'"
            assert connection_threads() == [f"syncchat {host}:{port}"]
            peer.send(TextMessage(data="three"))
            assert peer.expect(TextMessage).data == "three"
        wait_for(lambda: not connection_threads())
        assert log.count("end") == 1


def test_a_conversation_that_may_block_begins_on_its_thread() -> None:
    with serving() as (server, log), Peer.client(server.port, "/thread") as peer:
        peer.send(TextMessage(data="/x"))
        peer.expect(TextMessage)
        assert "begin" not in log
        assert len(connection_threads()) == 1


def test_a_client_gets_its_answer_when_its_conversation_has_begun() -> None:
    begun: list[bool] = []

    class Greeting(Conversation):
        def begin(self) -> bool:
            self._websocket.send("welcome")
            begun.append(bool(select.select([sock], [], [], 0)[0]))
            return True

    with (
        serve(None, converse=lambda websocket: Greeting(websocket, [])) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as sock,
    ):
        sock.sendall(upgrade_request())
        _, rest = read_head(sock)
        peer = Peer(sock, ConnectionType.CLIENT, rest)
        assert peer.expect(TextMessage).data == "welcome"
        assert begun == [False]


def test_a_request_may_arrive_in_parts_or_late_or_with_messages() -> None:
    with serving() as (server, _):
        for cut in (1, 40, len(upgrade_request())):
            with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as sock:
                sock.sendall(upgrade_request()[:cut])
                sock.sendall(upgrade_request()[cut:])
                # A masked text message, with a mask of zeros.
                sock.sendall(b"\x81\x81\0\0\0\0x")
                received = b""
                # Without a thread, or on the thread, which reads what comes with the request.
                while not received.endswith((b"\x81\x01x", b"'x'")):
                    data = sock.recv(65536)
                    assert data, received
                    received += data


def test_a_client_without_a_request_is_refused_at_the_deadline() -> None:
    with serving(open_timeout=0.1) as (server, log):
        with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as sock:
            assert read_all(sock).startswith(b"HTTP/1.1 408 ")
        wait_for(lambda: server.connections == 0)
        assert log == []


@pytest.mark.parametrize("failing", ["made", "begin", "take", "run", "end"])
def test_a_failure_closes_the_connection_and_no_other(
    failing: str, caplog: pytest.LogCaptureFixture
) -> None:
    with serving() as (server, log), Peer.client(server.port) as other:
        with Peer.client(server.port, f"/{failing}") as peer:
            peer.send(TextMessage(data="/x"))
            if failing == "end":
                peer.expect(TextMessage)
                peer.send(CloseConnection(code=NORMAL))
                assert peer.expect(CloseConnection).code == NORMAL
            else:
                assert peer.expect(CloseConnection).code == INTERNAL_ERROR
        wait_for(lambda: server.connections == 1)
        other.send(TextMessage(data="still here"))
        assert other.expect(TextMessage).data == "still here"
        assert log.count("end") == (failing != "made")
    assert "ZeroDivisionError" in caplog.text


def test_a_stop_ends_conversations_without_threads() -> None:
    with serving() as (server, log):
        peers = [Peer.client(server.port) for _ in range(5)]
        for peer in peers:
            peer.send(TextMessage(data="x"))
            peer.expect(TextMessage)
        # Two of them do not answer the Close.
        stopping = threading.Thread(target=server.stop, args=(0.3,))
        stopping.start()
        for peer in peers:
            assert peer.expect(CloseConnection).code == GOING_AWAY
        for peer in peers[2:]:
            peer.close()
        stopping.join(PATIENCE)
        assert server.connections == 0
        assert log.count("end") == 5
        for peer in peers[:2]:
            peer.close()


def test_a_client_that_never_sends_its_fin_is_cut_off() -> None:
    with serving(close_timeout=0.1) as (server, log):
        with Peer.client(server.port) as peer:
            peer.send(CloseConnection(code=NORMAL))
            assert peer.expect(CloseConnection).code == NORMAL
            wait_for(lambda: server.connections == 0)
            assert log == ["made", "begin", "end"]


def test_a_conversation_or_a_handler_is_needed() -> None:
    with pytest.raises(TypeError, match="needs a handler"):
        serve(None)
