"""A connection that is cut at every point and in every way, on both sides."""

from __future__ import annotations

import contextlib
import queue
import socket
import struct
import threading
from collections.abc import Callable, Iterator

import pytest
from wsproto.events import CloseConnection

from syncchat import ChatServer
from syncchat.errors import ConnectionClosed, HandshakeFailed
from syncchat.net import WebSocket, connect, serve
from tests.peer import (
    PATIENCE,
    InThread,
    Peer,
    read_head,
    upgrade_answer,
    upgrade_request,
    wait_for,
)

CUTS = ["FIN", "RST", "silence"]

#: A complete message, and the beginning of another one.
FRAME = b"\x81\x83\x00\x00\x00\x00one"
PIECE = b"\x01\x83\x00\x00\x00\x00two"
HEARTBEAT = {"ping_interval": 0.15, "ping_timeout": 0.15}


def cut(sock: socket.socket, how: str) -> None:
    """Reset or close the connection, or leave it open and silent."""
    if how == "RST":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if how != "silence":
        sock.close()


# The server's side: a client is cut off.

SERVER_POINTS: dict[str, bytes] = {
    "before a byte": b"",
    "in the handshake": upgrade_request()[:40],
    "behind the handshake": upgrade_request(),
    "between frames": upgrade_request() + FRAME,
    "in a header": upgrade_request() + FRAME[:1],
    "in the mask": upgrade_request() + FRAME[:4],
    "in a frame": upgrade_request() + FRAME[:8],
    "between fragments": upgrade_request() + PIECE,
    "in a close": upgrade_request() + b"\x88\x82\x00\x00",
    "behind a close": upgrade_request() + b"\x88\x82\x00\x00\x00\x00\x03\xe8",
}


@pytest.mark.parametrize("how", CUTS)
@pytest.mark.parametrize("point", SERVER_POINTS)
def test_a_client_that_is_cut_off_is_logged_as_disconnected(point: str, how: str) -> None:
    lines: list[str] = []
    chat = ChatServer(
        port=0,
        greeting="",
        log=lines.append,
        open_timeout=0.2,
        close_timeout=0.2,
        ping_interval=HEARTBEAT["ping_interval"],
        ping_timeout=HEARTBEAT["ping_timeout"],
    )
    with chat:
        with socket.create_connection(("127.0.0.1", chat.port), timeout=PATIENCE) as sock:
            who = f"127.0.0.1:{sock.getsockname()[1]}"
            sock.sendall(SERVER_POINTS[point])
            opened = SERVER_POINTS[point].startswith(upgrade_request())
            if opened:
                wait_for(lambda: f"New connection from {who}" in lines)
            cut(sock, how)
            if opened:
                wait_for(lambda: f"Client {who} disconnected" in lines)
            wait_for(lambda: chat.stats().connections == 0)
        said = [line for line in lines if who in line]
        assert len([line for line in said if "disconnected" in line]) == opened
        assert len([line for line in said if line.startswith("Refused")]) <= 1
        assert len([line for line in said if line.startswith("Received")]) == (
            point == "between frames"
        )


# The client's side: a server is cut off.


def answer_and(data: bytes) -> Callable[[bytes], bytes]:
    return lambda request: upgrade_answer(request) + data


CLIENT_POINTS: dict[str, Callable[[bytes], bytes]] = {
    "before a byte": lambda _: b"",
    "in the handshake": lambda request: upgrade_answer(request)[:40],
    "behind the handshake": answer_and(b""),
    "between frames": answer_and(b"\x81\x03one"),
    "in a header": answer_and(b"\x81"),
    "in a frame": answer_and(b"\x81\x03o"),
    "between fragments": answer_and(b"\x01\x03two"),
    "in a close": answer_and(b"\x88\x02\x03"),
    "behind a close": answer_and(b"\x88\x02\x03\xe8"),
}


@contextlib.contextmanager
def server_that_is_cut_off(answer: Callable[[bytes], bytes], how: str) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(PATIENCE)
        release = threading.Event()

        def serve_one() -> None:
            sock, _ = listening.accept()
            with sock:
                head, _ = read_head(sock)
                sock.sendall(answer(head))
                cut(sock, how)
                release.wait(PATIENCE)

        thread = threading.Thread(target=serve_one)
        thread.start()
        try:
            yield f"ws://127.0.0.1:{listening.getsockname()[1]}/"
        finally:
            release.set()
            thread.join(PATIENCE)


@pytest.mark.parametrize("how", CUTS)
@pytest.mark.parametrize("point", CLIENT_POINTS)
def test_a_server_that_is_cut_off_raises_and_does_not_hang(point: str, how: str) -> None:
    settings = {"open_timeout": 0.3, "close_timeout": 0.2, **HEARTBEAT}
    with server_that_is_cut_off(CLIENT_POINTS[point], how) as url:
        if point in ("before a byte", "in the handshake"):
            with pytest.raises(TimeoutError if how == "silence" else HandshakeFailed):
                connect(url, **settings)  # type: ignore[arg-type]
            return
        try:
            websocket = connect(url, **settings)  # type: ignore[arg-type]
        except HandshakeFailed:
            # A reset discards data that was not read yet.
            assert how == "RST"
            return
        heard: list[object] = []
        with websocket:
            with contextlib.suppress(ConnectionClosed):
                heard.extend(websocket)
        assert websocket.close_code == (1000 if point == "behind a close" else 1006) or (
            how == "RST" and websocket.close_code == 1006
        )
        assert heard == (["one"] if point == "between frames" else []) or how == "RST"


@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_an_attempt_to_connect_ends_when_it_is_stopped(scheme: str) -> None:
    """Issue 13, item 19: during the opening handshake or the TLS handshake."""
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(PATIENCE)
        url = f"{scheme}://127.0.0.1:{listening.getsockname()[1]}/"
        attempt = InThread(lambda: connect(url, stop=stop, open_timeout=4 * PATIENCE))
        sock, _ = listening.accept()
        with sock:
            assert sock.recv(1)
            stop.set()
            with pytest.raises(TimeoutError):
                attempt.result()


# During the closing handshake of this side.


@pytest.mark.parametrize("how", CUTS)
@pytest.mark.parametrize("answered", ["not at all", "by half"])
@pytest.mark.parametrize("side", ["server", "client"])
def test_a_peer_that_is_cut_off_in_our_close_ends_it_as_1006(
    side: str, answered: str, how: str
) -> None:
    ended: queue.Queue[WebSocket] = queue.Queue()

    def close(websocket: WebSocket) -> None:
        websocket.close(4000, timeout=0.3)
        ended.put(websocket)

    half = b"\x88\x82\x00\x00" if side == "server" else b"\x88\x02\x03"
    with contextlib.ExitStack() as stack:
        if side == "server":
            server = stack.enter_context(serve(close))
            peer = stack.enter_context(Peer.client(server.port))
        else:
            listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            url = f"ws://127.0.0.1:{listening.getsockname()[1]}/"
            thread = threading.Thread(target=lambda: close(connect(url)))
            thread.start()
            stack.callback(thread.join, PATIENCE)
            sock, _ = listening.accept()
            peer = stack.enter_context(Peer.server(sock))
        assert peer.expect(CloseConnection).code == 4000
        if answered == "by half":
            peer.send_bytes(half)
        cut(peer.sock, how)
        assert ended.get(timeout=PATIENCE).close_code == 1006
