"""A stop: every client gets a Close, in bounded time, however busy the server is."""

from __future__ import annotations

import re
import signal
import socket
import threading
import time
from contextlib import ExitStack

import pytest
from wsproto.events import CloseConnection, TextMessage

from syncchat import ChatServer
from syncchat.net import WebSocket, serve
from tests.peer import PATIENCE, Peer, read_all, read_head, upgrade_request, wait_for
from tests.processes import SERVER, Script, ServerScript

#: A Close frame with 1001 and the server's reason, which may ask for a return.
GOODBYE = re.compile(
    rb"\x88[\x18-\x2f]\x03\xe9the server is stopping(; retry after [0-9.]+)?\Z", re.DOTALL
)


@pytest.mark.parametrize(
    "count", [50, pytest.param(2000, marks=[pytest.mark.slow, pytest.mark.alone])]
)
def test_ctrl_c_with_many_active_clients_ends_in_3_seconds(many_files: None, count: int) -> None:
    with (
        Script([*SERVER, "--port", "0", "--greeting", "", "--rate", "0"]) as server,
        ExitStack() as stack,
    ):
        port = int(server.wait_for_line(r"listening on port \d+").rsplit(" ", 1)[1])
        clients = []
        for _ in range(count):
            sock = stack.enter_context(
                socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
            )
            sock.sendall(upgrade_request())
            read_head(sock)
            clients.append(sock)
        talker = Peer.client(port)
        stack.enter_context(talker)
        heard: list[str] = []

        def talk() -> None:
            event: object = TextMessage(data="")
            while isinstance(event, TextMessage):
                talker.send(TextMessage(data="on and on"))
                event = talker.next()
                heard.append(repr(event))

        talking = threading.Thread(target=talk)
        talking.start()
        wait_for(lambda: len(heard) > 20)
        begun = time.monotonic()
        server.signal(signal.SIGINT)
        # Half of the clients answer, the others never do.
        told = []
        for number, sock in enumerate(clients):
            if number % 2:
                data = b""
                while GOODBYE.search(data) is None:
                    received = sock.recv(65536)
                    assert received, (number, data[-60:])
                    data = data[-60:] + received
                sock.sendall(b"\x88\x82\x00\x00\x00\x00\x03\xe9")
                told.append(number)
        assert server.exit_code() == 0
        # Within 3 seconds on an idle machine.
        assert time.monotonic() - begun < 10
        for number, sock in enumerate(clients):
            if not number % 2:
                assert GOODBYE.search(read_all(sock)), number
                told.append(number)
        talking.join(PATIENCE)
        assert "1001" in heard[-1]
        assert len(told) == count
        assert server.errors == []


def test_a_second_ctrl_c_ends_it_at_once() -> None:
    with ServerScript() as server, Peer.client(server.port) as peer:
        assert peer.expect(TextMessage)
        server.signal(signal.SIGINT)
        # The server waits for the reply to this Close.
        assert peer.expect(CloseConnection).code == 1001
        server.signal(signal.SIGINT)
        # A clean stop, which waits for the reply, would be exit code 0.
        assert server.exit_code() == -signal.SIGINT
        assert server.errors == []


class SlowToEnd:
    """A conversation without a thread. Its end takes a moment, as that of a busy server."""

    def __init__(self, _websocket: WebSocket) -> None:
        pass

    def blocks(self) -> bool:
        return False

    def begin(self) -> bool:
        return True

    def take(self, _messages: object, _later: object) -> int:
        return 0

    def run(self) -> None:
        raise AssertionError("it needs no thread")

    def end(self) -> None:
        time.sleep(0.004)


@pytest.mark.slow
def test_many_clients_that_end_one_after_the_other_are_not_taken_for_stuck(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with ExitStack() as stack:
        with serve(None, converse=SlowToEnd, max_connections=400) as server:
            for _ in range(350):
                sock = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
                sock.sendall(upgrade_request())
                sock.settimeout(PATIENCE)
                read_head(sock)
            begin = time.monotonic()
            server.stop(timeout=0)
        assert time.monotonic() - begin < 5
    assert not caplog.records


@pytest.mark.slow
def test_many_clients_are_asked_to_come_back_one_after_the_other() -> None:
    count = 740
    with ChatServer(port=0, notices=False) as chat, ExitStack() as stack:
        peers = [stack.enter_context(Peer.client(chat.port)) for _ in range(count - 1)]
        for peer in peers:
            peer.expect(TextMessage)
        source = stack.enter_context(socket.create_connection(("127.0.0.1", chat.port), PATIENCE))
        source.sendall(
            b"GET /?history=1 HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
        )
        data = b""
        while b"event: welcome" not in data:
            data += source.recv(65536)
        chat.stop()
        seconds = []
        for peer in peers:
            closed = peer.expect(CloseConnection)
            assert closed.code == 1001
            assert closed.reason is not None
            found = re.fullmatch(r"the server is stopping; retry after (\d+\.\d)", closed.reason)
            assert found is not None
            seconds.append(float(found[1]))
        while part := source.recv(65536):
            data += part
        # The first such field came with the welcome.
        *_, asked = re.findall(rb"retry: (\d+)\n\n", data)
        assert data.endswith(b"0\r\n\r\n")
        seconds.append(int(asked) / 1000)
    # One after the other over two seconds, in no order.
    assert 1.0 <= min(seconds) < 1.1
    assert 2.9 < max(seconds) <= 3.0
    assert all(
        abs(sum(each < at for each in seconds) / count - (at - 1) / 2) < 0.06
        for at in (1.5, 2, 2.5)
    )
    assert seconds != sorted(seconds)
