"""The other end of a connection: a real socket, used with raw bytes or through wsproto."""

from __future__ import annotations

import contextlib
import http.client
import queue
import secrets
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType
from typing import Any, Self, TypeVar

from wsproto.connection import Connection, ConnectionType
from wsproto.events import Event, Message
from wsproto.utilities import generate_accept_token

from syncchat.net import WebSocket, connect, serve

#: Seconds that anything may take before a test fails: many times what it takes, as the
#: machine may be busy with other things.
PATIENCE = 30.0

E = TypeVar("E", bound=Event)

#: Makes a WebSocket and a raw peer at the other end.
Maker = Callable[..., "tuple[WebSocket, Peer]"]


def wait_for(condition: Callable[[], object], what: str = "") -> None:
    """Return as soon as ``condition()`` is true; fail after PATIENCE seconds."""
    deadline = time.monotonic() + PATIENCE
    # Some conditions are expensive: the longer it takes, the less often it looks.
    pause = 0.001
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what or condition}"
        time.sleep(pause)
        pause = min(pause * 1.2, 0.02)


def free_port() -> int:
    """A port on which no program listens.

    It is below those that the system gives to outgoing connections by itself. One of these could
    take a port from a server that is restarted.
    """
    while True:
        port = 10_000 + secrets.randbelow(22_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


class Peer:
    """A raw socket with wsproto on top, either side."""

    def __init__(self, sock: socket.socket, side: ConnectionType, early: bytes = b"") -> None:
        self.sock = sock
        self.sock.settimeout(PATIENCE)
        self.protocol = Connection(side, trailing_data=early)
        self._events: Iterator[Event] = self.protocol.events()

    @classmethod
    def client(cls, port: int, path: str = "/", headers: str = "", host: str = "127.0.0.1") -> Peer:
        """Connect, and do the opening handshake as a client."""
        sock = socket.create_connection((host, port), timeout=PATIENCE)
        sock.sendall(upgrade_request(path, headers))
        head, rest = read_head(sock)
        assert head.startswith(b"HTTP/1.1 101 "), head
        return cls(sock, ConnectionType.CLIENT, rest)

    @classmethod
    def server(cls, sock: socket.socket, headers: str = "", early: bytes = b"") -> Peer:
        """Do the opening handshake as a server; ``early`` goes out in the same packet."""
        head, rest = read_head(sock)
        sock.sendall(upgrade_answer(head, headers) + early)
        return cls(sock, ConnectionType.SERVER, rest)

    def send(self, *events: Event) -> None:
        """Send all events in one packet."""
        self.send_bytes(b"".join(self.protocol.send(event) for event in events))

    def send_bytes(self, data: bytes) -> None:
        self.sock.sendall(data)

    def next(self) -> Event:
        """The next event of the other end; a frame that arrives in pieces is one event."""
        pieces: list[Any] = []
        while True:
            event = next(self._events, None)
            if event is not None:
                if not isinstance(event, Message):
                    return event
                pieces.append(event.data)
                if event.frame_finished:
                    return replace(event, data=type(event.data)().join(pieces))
                continue
            data = self.sock.recv(65536)
            assert data, "the other end closed the connection"
            self.protocol.receive_data(data)
            self._events = self.protocol.events()

    def expect(self, kind: type[E]) -> E:
        """The next event, which must be a ``kind``."""
        event = self.next()
        assert isinstance(event, kind), event
        return event

    def expect_end(self) -> bytes:
        """Read to the end of the stream; returns the remaining bytes."""
        rest = b""
        while True:
            try:
                data = self.sock.recv(65536)
            except ConnectionResetError:
                return rest
            if not data:
                return rest
            rest += data

    def reset(self) -> None:
        """End the connection by RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def upgrade_request(path: str = "/", headers: str = "") -> bytes:
    return (
        f"GET {path} HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n{headers}\r\n"
    ).encode()


def upgrade_answer(request: bytes, headers: str = "") -> bytes:
    key = next(
        line.split(b": ")[1]
        for line in request.split(b"\r\n")
        if line.lower().startswith(b"sec-websocket-key")
    )
    accept = generate_accept_token(key).decode()
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n{headers}\r\n"
    ).encode()


def read_head(sock: socket.socket) -> tuple[bytes, bytes]:
    """An HTTP head, and the bytes after it."""
    data = b""
    while b"\r\n\r\n" not in data:
        received = sock.recv(65536)
        assert received, f"closed in the head: {data!r}"
        data += received
    head, _, rest = data.partition(b"\r\n\r\n")
    return head, rest


def ask_http(
    port: int, path: str, method: str = "GET", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers by lower-case name, and body of an answer."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        client.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})
        answer = client.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
    finally:
        client.close()


def read_all(sock: socket.socket) -> bytes:
    """All bytes until the end of the stream."""
    data = b""
    while received := sock.recv(65536):
        data += received
    return data


@contextmanager
def server_side(**settings: Any) -> Iterator[tuple[WebSocket, Peer]]:
    """A server's WebSocket, and a raw client as its peer."""
    made: queue.Queue[WebSocket] = queue.Queue()
    release = threading.Event()

    def handler(websocket: WebSocket) -> None:
        made.put(websocket)
        release.wait()

    with serve(handler, **settings) as server, Peer.client(server.port) as peer:
        websocket = made.get(timeout=PATIENCE)
        try:
            yield websocket, peer
        finally:
            # Before the server stops, since the stop waits for the handler.
            websocket.abort()
            release.set()


@contextmanager
def client_side(**settings: Any) -> Iterator[tuple[WebSocket, Peer]]:
    """A client's WebSocket, and a raw server as its peer."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(PATIENCE)
        url = f"ws://127.0.0.1:{listening.getsockname()[1]}/"
        made: queue.Queue[WebSocket] = queue.Queue()
        thread = threading.Thread(target=lambda: made.put(connect(url, **settings)))
        thread.start()
        sock, _ = listening.accept()
        with Peer.server(sock) as peer:
            websocket = made.get(timeout=PATIENCE)
            thread.join()
            try:
                yield websocket, peer
            finally:
                websocket.abort()
                websocket.close()


def from_peer(peer: Peer, payload: bytes, first_byte: int = 0x81) -> bytes:
    """A raw frame with a length below 126."""
    if peer.protocol.client:
        return bytes([first_byte, 0x80 | len(payload), 0, 0, 0, 0]) + payload
    return bytes([first_byte, len(payload)]) + payload


class InThread(threading.Thread):
    """Runs a blocking call in a thread, and keeps its result."""

    def __init__(self, call: Callable[[], Any]) -> None:
        super().__init__()
        self._call = call
        self._result: Any = None
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._result = self._call()
        except BaseException as exc:
            self._error = exc

    def result(self) -> Any:
        self.join(PATIENCE)
        assert not self.is_alive(), "still blocked"
        if self._error is not None:
            raise self._error
        return self._result
