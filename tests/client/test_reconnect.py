"""When the client reconnects, and when it gives up."""

from __future__ import annotations

import itertools
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import psutil
import pytest
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, TextMessage

from syncchat import (
    ChatServer,
    Client,
    ConnectionClosed,
    Disconnected,
    Line,
    NotConnected,
)
from syncchat.chat.events import (
    Message,
    NamesRequest,
    Welcome,
    encode,
)
from syncchat.client import protocol, reconnect
from syncchat.net import WebSocket, serve
from tests.peer import PATIENCE, InThread, Peer, free_port, wait_for
from tests.people import messages, until, url_of
from tests.processes import ROOT
from tests.stage import closing_with, welcome


def tcp_connections() -> list[Any]:
    return list(psutil.Process().net_connections("tcp"))


# When to reconnect.


@pytest.mark.parametrize("code", [1001, 1006])
def test_after_these_close_codes_a_client_reconnects(code: int) -> None:
    with closing_with(code) as (url, asked), Client(url) as client:
        assert isinstance(client.receive(PATIENCE), Line | Disconnected)
        wait_for(lambda: len(asked) >= 2)
        assert client.close_code is None


@pytest.mark.parametrize("code", [1000, 1008])
def test_after_these_close_codes_a_client_does_not_reconnect(code: int) -> None:
    with closing_with(code) as (url, asked), Client(url) as client:
        with pytest.raises(ConnectionClosed) as caught:
            while True:
                assert isinstance(client.receive(PATIENCE), Line)
        assert caught.value.code == client.close_code == code
        assert caught.value.reason == client.close_reason == "so it is"
        assert len(asked) == 1


def test_a_refused_reconnect_is_final() -> None:
    port = free_port()
    with ChatServer(port=port, token="secret") as chat:
        client = Client(url_of(chat), token="secret").connect()
        until(client, Welcome)
    try:
        until(client, Disconnected)
        with ChatServer(port=port, token="another"):
            with pytest.raises(ConnectionClosed, match="401"):
                until(client, Message)
    finally:
        client.close()


def test_a_client_without_reconnect_stays_disconnected() -> None:
    with closing_with(1001) as (url, asked), Client(url, reconnect=False) as client:
        with pytest.raises(ConnectionClosed, match="1001"):
            until(client, Message)
        assert len(asked) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="needs network namespaces")
def test_a_client_reconnects_at_once_when_the_network_returns() -> None:
    # As root, or as a user with user namespaces.
    ways = (["unshare", "--net"], ["unshare", "--net", "--user", "--map-root-user"])
    possible = [
        way
        for way in ways
        if not subprocess.run([*way, "true"], capture_output=True, check=False).returncode
    ]
    if not possible:
        pytest.skip("no network of its own may be made here")
    result = subprocess.run(
        [*possible[0], sys.executable, str(ROOT / "tests" / "network_returns.py")],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        cwd=ROOT,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_long_delay_takes_few_looks_at_the_network_and_ends_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks: list[float] = []
    monkeypatch.setattr(reconnect, "route_to", lambda _: looks.append(time.monotonic()))
    monkeypatch.setattr(protocol, "delays", lambda _: itertools.repeat(20.0))
    with ChatServer(port=0) as chat:
        client = Client(url_of(chat)).connect()
        until(client, Welcome)
    until(client, Disconnected)
    begin = time.monotonic()
    # A look every half a second would come meanwhile.
    with pytest.raises(TimeoutError):
        client.receive(0.8)
    assert len(looks) <= 1
    client.close()
    assert time.monotonic() - begin < 0.8 + PATIENCE / 10


@pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors")
def test_a_client_without_free_descriptors_tries_again() -> None:
    port = free_port()
    with ChatServer(port=port) as chat:
        client = Client(url_of(chat)).connect()
        until(client, Welcome)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        until(client, Disconnected)
        with ChatServer(port=port):
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
            time.sleep(1.5)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            until(client, Welcome)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        client.close()


def test_close_ends_a_pause_before_a_reconnect() -> None:
    with ChatServer(port=free_port()) as chat:
        client = Client(url_of(chat)).connect()
        until(client, Welcome)
    until(client, Disconnected)
    begin = time.monotonic()
    client.close()
    assert time.monotonic() - begin < 5
    with pytest.raises(ConnectionClosed):
        until(client, Message)


@contextmanager
def unanswered() -> Iterator[str]:
    """The URL of a server to which no connection can be made: its queue is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listening, ExitStack() as stack:
        address = listening.getsockname()
        for _ in range(4):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(address)
        yield f"ws://127.0.0.1:{address[1]}/"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse where a queue is full")
def test_close_ends_an_unanswered_first_attempt() -> None:
    """Issue 13, item 19: from another thread, during a TCP connect."""
    with unanswered() as url:
        client = Client(url, timeout=4 * PATIENCE)
        attempt = InThread(client.connect)
        wait_for(lambda: any(each.status == "SYN_SENT" for each in tcp_connections()))
        begin = time.monotonic()
        client.close(1.0)
        assert time.monotonic() - begin < PATIENCE
        with pytest.raises(NotConnected, match="closed while connecting"):
            attempt.result()


@pytest.mark.parametrize("timeout", [None, 2 * PATIENCE])
def test_close_ends_an_unanswered_reconnect(timeout: float | None) -> None:
    """Issue 13, item 19: after a failed flush, and during a handshake."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(PATIENCE)
        client = Client(f"ws://127.0.0.1:{listening.getsockname()[1]}/", timeout=4 * PATIENCE)
        attempt = InThread(client.connect)
        sock, _ = listening.accept()
        with Peer.server(sock, "Sec-WebSocket-Protocol: syncchat.v1\r\n") as peer:
            attempt.result()
            peer.send(TextMessage(data=encode(welcome())))
            until(client, Welcome)
            client.say("not acknowledged")
            peer.reset()
        sock, _ = listening.accept()
        with sock:
            with pytest.raises(TimeoutError):
                client.flush(0.1)
            begin = time.monotonic()
            client.close(timeout)
            # The attempt alone would take much longer.
            assert time.monotonic() - begin < PATIENCE
            with pytest.raises(ConnectionClosed):
                until(client, Message)


@pytest.mark.parametrize("timeout", [0.0, 0.5, 1.5])
def test_close_keeps_its_timeout_without_an_answer(timeout: float) -> None:
    """Issue 13, item 19: the closing handshake and the end of the thread together."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(PATIENCE)
        client = Client(f"ws://127.0.0.1:{listening.getsockname()[1]}/")
        attempt = InThread(client.connect)
        sock, _ = listening.accept()
        with Peer.server(sock, "Sec-WebSocket-Protocol: syncchat.v1\r\n") as peer:
            attempt.result()
            peer.send(TextMessage(data=encode(welcome())))
            until(client, Welcome)
            client.say("not acknowledged")
            with pytest.raises(TimeoutError):
                client.flush(0.1)
            begin = time.monotonic()
            client.close(timeout)
            # Some slack for a busy machine.
            assert timeout * 0.8 <= time.monotonic() - begin < timeout + 5.0
            with pytest.raises(ConnectionClosed):
                until(client, Message)
            assert client.unacknowledged == 1


def test_messages_during_the_closing_handshake_are_received() -> None:
    """Issue 13, item 19: the client reads until the server's Close arrives."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(PATIENCE)
        client = Client(f"ws://127.0.0.1:{listening.getsockname()[1]}/")
        attempt = InThread(client.connect)
        sock, _ = listening.accept()
        with Peer.server(sock, "Sec-WebSocket-Protocol: syncchat.v1\r\n") as peer:
            attempt.result()
            peer.send(TextMessage(data=encode(welcome())))
            nonce = client.say("last words")
            assert nonce is not None
            assert peer.expect(TextMessage).data
            closing = InThread(client.close)
            close = peer.expect(CloseConnection)
            own = Message(1, 0.0, "ann", "last words", "message", nonce)
            peer.send_bytes(Connection(ConnectionType.SERVER).send(TextMessage(data=encode(own))))
            peer.send(close.response())
            closing.result()
        assert client.unacknowledged == 0
        assert messages(list(client)) == ["last words"]
        assert client.close_code == 1000


def test_a_server_without_the_subprotocol_gets_plain_lines() -> None:
    heard: list[str | bytes] = []

    def handler(websocket: WebSocket) -> None:
        websocket.send("Hello")
        for message in websocket:
            heard.append(message)
            websocket.send(f"you said {message!s}")

    with serve(handler) as server, Client(f"ws://127.0.0.1:{server.port}/") as client:
        assert client.receive(PATIENCE) == Line("Hello")
        assert client.room is client.nick is None
        client.say("/etc/hosts")
        client.act("waves")
        client.send_line("/names")
        client.join("ops")
        client.flush(PATIENCE)
        wanted = ["//etc/hosts", "/me waves", "/names", "/join ops"]
        told = [client.receive(PATIENCE) for _ in wanted]
        assert told == [Line(f"you said {text}") for text in wanted]
        with pytest.raises(NotConnected):
            client.ask(NamesRequest())
        client.leave()
        assert list(client) == []
    assert heard == wanted
