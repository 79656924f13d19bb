"""The load side of the benchmark: clients on raw sockets that count what comes.

All frames of a run have one size, so that deliveries are counted by their
bytes; a few clients are read frame by frame, for the latency. A message is in
flight until every client has it.
"""

from __future__ import annotations

import itertools
import select
import selectors
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field

#: Clients whose frames are read one by one.
OBSERVERS = 4
#: Seconds without a single delivery after which a server is given up.
PATIENCE = 10.0
#: A text begins with its number, in so many digits.
SEQUENCE_DIGITS = 10


@dataclass
class Workload:
    """What one run asks of a server."""

    connections: int
    senders: int
    in_flight: int
    size: int
    stalled: int
    seconds: float
    megabytes: float | None

    def describe(self) -> str:
        extent = f"{self.megabytes:g} MB" if self.megabytes else f"{self.seconds:g} s"
        stalled = f", {self.stalled} of them never reading" if self.stalled else ""
        return (
            f"{self.connections} clients{stalled}, {self.senders} sending, "
            f"{self.in_flight} in flight, {self.size} bytes, {extent}"
        )


def open_client(port: int, trust: ssl.SSLContext | None) -> socket.socket:
    """A socket behind the opening handshake; with ``trust``, over TLS."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if trust:
        sock = trust.wrap_socket(sock, server_hostname="127.0.0.1")
    sock.sendall(
        b"GET / HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        received = sock.recv(1)
        if not received:
            raise RuntimeError(f"the server refused a client: {answer!r}")
        answer += received
    if not answer.startswith(b"HTTP/1.1 101 "):
        raise RuntimeError(f"the server refused a client: {answer!r}")
    sock.setblocking(False)
    return sock


def client_frame(payload: bytes) -> bytes:
    """A masked text frame; the mask is zero, so that the payload stands in it as it is."""
    if len(payload) < 126:
        return bytes([0x81, 0x80 | len(payload), 0, 0, 0, 0]) + payload
    return b"\x81\xfe" + len(payload).to_bytes(2, "big") + bytes(4) + payload


def server_frame_header(size: int) -> int:
    """Bytes of the header of a server's frame with ``size`` bytes of payload."""
    return 2 if size < 126 else 4 if size < 65536 else 10


def roll_call(clients: list[socket.socket]) -> None:
    """Return when every client is in the room, and nothing is under way.

    The handshake's end is no sign of the former: what is sent meanwhile would
    be missing at the end.
    """
    deadline = time.monotonic() + PATIENCE
    with selectors.DefaultSelector() as selector:
        for sock in clients:
            selector.register(sock, selectors.EVENT_READ)
        while selector.get_map() and time.monotonic() < deadline:
            clients[0].send(client_frame(b"who is here?"))
            for key, _ in selector.select(0.05):
                selector.unregister(key.fileobj)
    clients[0].send(client_frame(b"all are here"))
    for sock in clients:
        sock.settimeout(PATIENCE)
        heard = b""
        while not heard.endswith(b"all are here"):
            heard = heard[-12:] + sock.recv(65536)
        sock.setblocking(False)


@dataclass
class Load:
    """The clients, and what they have seen."""

    clients: list[socket.socket]
    workload: Workload
    received: int = 0
    sent: int = 0
    latencies: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        names = [":".join(map(str, sock.getsockname())) for sock in self.clients]
        if len({len(name) for name in names}) != 1:
            raise RuntimeError("the clients' ports differ in length: run it again")
        shown = len(names[0]) + 2 + self.workload.size
        self.frame = server_frame_header(shown) + shown
        self._sequence_at = server_frame_header(shown) + len(names[0]) + 2
        self.readers = self.clients[: self.workload.connections - self.workload.stalled]
        self._senders = itertools.cycle(self.readers[: self.workload.senders])
        self._padding = b"x" * (self.workload.size - SEQUENCE_DIGITS)
        self._sent_at: dict[int, float] = {}
        self._rests = {sock.fileno(): b"" for sock in self.readers[:OBSERVERS]}
        self._by_number = {sock.fileno(): sock for sock in self.readers}
        self._buffer = bytearray(1 << 20)
        self._poll = select.epoll()
        for sock in self.readers:
            self._poll.register(sock, select.EPOLLIN)

    @property
    def deliveries(self) -> float:
        return self.received / self.frame

    def close(self) -> None:
        self._poll.close()
        for sock in self.clients:
            sock.close()

    def run_until(self, over: Callable[[], bool], *, refill: bool = True) -> None:
        """Keep the messages in flight until ``over``; without ``refill`` send no more."""
        last = time.monotonic()
        while not over():
            if refill:
                self._refill()
            before = self.received
            for number, _ in self._poll.poll(1.0):
                self._receive(number)
            now = time.monotonic()
            if self.received != before:
                last = now
            elif now - last > PATIENCE:
                raise RuntimeError("the server delivers no more")

    def _refill(self) -> None:
        lacking = self.workload.in_flight - (self.sent - int(self.deliveries / len(self.readers)))
        if lacking <= 0:
            return
        outgoing: dict[socket.socket, list[bytes]] = {}
        now = time.perf_counter()
        for _ in range(lacking):
            payload = b"%0*d" % (SEQUENCE_DIGITS, self.sent) + self._padding
            outgoing.setdefault(next(self._senders), []).append(client_frame(payload))
            self._sent_at[self.sent] = now
            self.sent += 1
        for sock, frames in outgoing.items():
            data = b"".join(frames)
            while data:
                try:
                    data = data[sock.send(data) :]
                except BlockingIOError:
                    # A server that lets its senders wait: see what it has for us.
                    for number, _ in self._poll.poll(1.0):
                        self._receive(number)

    def _receive(self, number: int) -> None:
        sock = self._by_number[number]
        self._receive_once(number, sock)
        # What is decrypted already makes no descriptor readable.
        while isinstance(sock, ssl.SSLSocket) and sock.pending():
            self._receive_once(number, sock)

    def _receive_once(self, number: int, sock: socket.socket) -> None:
        rest = self._rests.get(number)
        try:
            if rest is None:
                count = sock.recv_into(self._buffer)
            else:
                data = sock.recv(1 << 20)
                count = len(data)
                self._observe(number, rest + data)
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        if not count:
            raise RuntimeError("the server closed a client's connection")
        self.received += count

    def _observe(self, number: int, data: bytes) -> None:
        now = time.perf_counter()
        start = 0
        while start + self.frame <= len(data):
            at = start + self._sequence_at
            sent_at = self._sent_at.get(int(data[at : at + SEQUENCE_DIGITS]))
            if sent_at is not None:
                self.latencies.append(now - sent_at)
            start += self.frame
        self._rests[number] = data[start:]
