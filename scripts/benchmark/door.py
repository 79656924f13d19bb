"""The workloads over plain HTTP, each against the same over WebSockets in the same run."""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Callable

from .clients import PATIENCE, hang_up, open_clients
from .dialects import Events, Lines
from .frames import client_frame, frame_end

__all__ = ["echo_rate", "follow", "publish_rate"]

#: What each message contains once, as a follower and a member get it.
_MARK = b'"type":"message"'

#: Seconds of load before a measurement begins.
_WARM_UP = 0.5


def _exchanges(exchange: Callable[[], None], seconds: float) -> float:
    """Return how many exchanges there are per second."""
    end = time.perf_counter() + _WARM_UP
    while time.perf_counter() < end:
        exchange()
    count, begin = 0, time.perf_counter()
    while (now := time.perf_counter()) < begin + seconds:
        exchange()
        count += 1
    return count / (now - begin)


def _blocking(sock: socket.socket) -> None:
    """Let reads wait in the kernel, without a call of poll."""
    sock.setblocking(True)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", int(PATIENCE), 0))


def echo_rate(port: int, path: str, size: int, seconds: float) -> float:
    """Return how many messages per second a client gets back, one after the other."""
    (sock,) = open_clients([(port, path)], Lines())
    frame = client_frame(b"x" * size)

    def exchange() -> None:
        sock.send(frame)
        data = sock.recv(65536)
        while frame_end(data, 0) != len(data):
            data += sock.recv(65536)

    try:
        _blocking(sock)
        return _exchanges(exchange, seconds)
    finally:
        hang_up([sock])


def publish_rate(port: int, path: str, size: int, seconds: float) -> float:
    """Return how many messages per second a client posts on one connection."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    request = (
        f"POST {path}?nick=bench HTTP/1.1\r\nHost: bench\r\nUser-Agent: bench\r\nAccept: */*\r\n"
        f"Content-Type: text/plain\r\nContent-Length: {size}\r\n\r\n"
    ).encode() + b"x" * size

    def exchange() -> None:
        sock.send(request)
        data = sock.recv(65536)
        while not data.endswith(b"}\n"):
            data += sock.recv(65536)
        if not data.startswith(b"HTTP/1.1 201 "):
            raise RuntimeError(f"a message was refused: {data!r}")

    try:
        _blocking(sock)
        return _exchanges(exchange, seconds)
    finally:
        hang_up([sock])


class _Audience:
    """Clients that read, and a client with a WebSocket that sends."""

    def __init__(self, clients: list[socket.socket], port: int, path: str, size: int) -> None:
        self._clients = {sock.fileno(): sock for sock in clients}
        self._rests = dict.fromkeys(self._clients, b"")
        self._events = Events()
        (self._sender,) = open_clients([(port, path)], self._events)
        self._text = b"x" * size
        self._sent = self.deliveries = 0
        self._poll = select.epoll()
        for sock in (*clients, self._sender):
            self._poll.register(sock, select.EPOLLIN)

    def run(self, in_flight: int, seconds: float) -> float:
        """Keep so many messages in flight. Returns the deliveries per second."""
        before, begin = self.deliveries, time.perf_counter()
        while time.perf_counter() < begin + seconds:
            missing = in_flight - (self._sent - self.deliveries // len(self._clients))
            self._send(missing)
            self._receive()
        return (self.deliveries - before) / (time.perf_counter() - begin)

    def settle(self) -> None:
        """Wait until every message has arrived."""
        while self.deliveries < self._sent * len(self._clients):
            self._receive()

    def close(self) -> None:
        self._poll.close()
        hang_up([*self._clients.values(), self._sender])

    def _send(self, count: int) -> None:
        payloads = (self._events.write(self._sender, self._text) for _ in range(count))
        data = b"".join(client_frame(payload) for payload in payloads)
        self._sent += count
        while data:
            try:
                data = data[self._sender.send(data) :]
            except BlockingIOError:
                self._receive()

    def _receive(self) -> None:
        ready = self._poll.poll(PATIENCE)
        if not ready:
            raise RuntimeError("the server stopped delivering")
        for number, _ in ready:
            sock = self._clients.get(number, self._sender)
            data = sock.recv(1 << 20)
            if not data:
                raise RuntimeError("the server closed a client's connection")
            if sock is not self._sender:
                data = self._rests[number] + data
                self.deliveries += data.count(_MARK)
                self._rests[number] = data[1 - len(_MARK) :]


def follow(
    port: int, path: str, count: int, size: int, in_flight: int, seconds: float, *, over_http: bool
) -> float:
    """Return the deliveries per second to so many followers, or clients with WebSockets."""
    if over_http:
        clients = _open_followers(port, path, count)
    else:
        clients = open_clients([(port, path)] * count, Events())
    audience = _Audience(clients, port, path, size)
    try:
        audience.run(in_flight, _WARM_UP)
        rate = audience.run(in_flight, seconds)
        audience.settle()
        return rate
    finally:
        audience.close()


def _open_followers(port: int, path: str, count: int) -> list[socket.socket]:
    """Connect EventSources, each of which has its welcome."""
    request = (
        f"GET {path} HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\n"
        "Cache-Control: no-cache\r\n\r\n"
    ).encode()
    followers: list[socket.socket] = []
    for _ in range(count):
        sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        followers.append(sock)
        sock.sendall(request)
        data = b""
        while b"event: welcome" not in data or not data.endswith(b"\n\n\r\n"):
            received = sock.recv(65536)
            if not received:
                raise RuntimeError(f"the server refused a follower: {data!r}")
            data += received
        sock.setblocking(False)
    return followers
