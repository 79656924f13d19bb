"""The load's clients: raw sockets with hand-made frames.

They cost little CPU, so that the run measures the server. They implement only the parts
of the protocol that they need.
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
import time
from collections.abc import Sequence

from .dialects import Dialect
from .frames import client_frame

__all__ = ["PATIENCE", "hang_up", "open_clients", "roll_call"]

#: Seconds without any progress after which a server counts as failed.
PATIENCE = 10.0

#: The most handshakes in progress at a time: fewer than any server's queue of connections.
_AT_ONCE = 64

#: The kernel's receive buffer, in bytes, of a client that never reads.
_STALLED_BUFFER = 4096

#: Seconds of silence after which the roll call asks the missing clients again.
_QUIET = 0.2

#: The roll call's question, and the text that ends it.
_QUESTION, _END = b"who is here?", b"all are here"


def open_clients(
    places: Sequence[tuple[int, str]],
    dialect: Dialect,
    *,
    trust: ssl.SSLContext | None = None,
    stalled: int = 0,
) -> list[socket.socket]:
    """Connect a client for each port and path, in that order, and complete the opening handshake.

    Also waits for the welcome if the dialect has one. With ``trust``, connects over
    TLS. The last ``stalled`` clients get a small receive buffer, because they never
    read. Raises :class:`RuntimeError` if the server refuses a client or does not
    answer.
    """
    clients: list[socket.socket] = []
    answers: dict[int, tuple[socket.socket, bytes]] = {}
    with select.epoll() as poll:
        try:
            while answers or len(clients) < len(places):
                while len(answers) < _AT_ONCE and len(clients) < len(places):
                    port, path = places[len(clients)]
                    sock = _connect(port, trust, reads=len(clients) < len(places) - stalled)
                    clients.append(sock)
                    sock.send(_request(dialect.target(path), dialect.subprotocol))
                    answers[sock.fileno()] = sock, b""
                    poll.register(sock, select.EPOLLIN)
                ready = poll.poll(PATIENCE)
                if not ready:
                    raise RuntimeError("the server did not answer a handshake")
                for number, _ in ready:
                    sock, answer = answers[number]
                    opens = b"\r\n\r\n" not in answer
                    answer += _receive(sock)
                    answers[number] = sock, answer
                    head, end, rest = answer.partition(b"\r\n\r\n")
                    if end and not head.startswith(b"HTTP/1.1 101 "):
                        raise RuntimeError(f"the server refused a client: {answer!r}")
                    if end and opens and dialect.first:
                        sock.send(client_frame(dialect.first))
                    if end and dialect.welcomed(rest):
                        poll.unregister(sock)
                        del answers[number]
        except BaseException:
            hang_up(clients)
            raise
    return clients


def hang_up(clients: Sequence[socket.socket]) -> None:
    """Close all sockets by RST, so that no port stays in TIME_WAIT."""
    for sock in clients:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()


def roll_call(rooms: Sequence[Sequence[socket.socket]], dialect: Dialect) -> None:
    """Wait until every client is in its room and no message is on its way.

    The end of the handshake does not prove that a client is in its room, and the run
    would count messages that it misses as lost. Raises :class:`RuntimeError` if a
    client receives nothing.
    """
    missing = {sock.fileno(): sock for room in rooms for sock in room}
    members = {room[0]: {sock.fileno() for sock in room} for room in rooms}
    with select.epoll() as poll:
        for number in missing:
            poll.register(number, select.EPOLLIN)
        while missing:
            for first, numbers in members.items():
                if not numbers.isdisjoint(missing):
                    first.send(client_frame(dialect.write(first, _QUESTION)))
            if not _hear(poll, missing):
                raise RuntimeError("a client did not get into its room")
    for room in rooms:
        room[0].send(client_frame(dialect.write(room[0], _END)))
    for sock in (sock for room in rooms for sock in room):
        _read_to_the_end(sock, dialect.tail)


def _hear(poll: select.epoll, missing: dict[int, socket.socket]) -> bool:
    """Remove the clients that receive something. Returns False if none does for a long time."""
    heard = False
    deadline = time.monotonic() + PATIENCE
    while missing and time.monotonic() < deadline:
        ready = poll.poll(_QUIET)
        if not ready and heard:
            break
        for number, _ in ready:
            if _receive(missing[number]):
                poll.unregister(number)
                del missing[number]
                heard = True
    return heard


def _read_to_the_end(sock: socket.socket, tail: int) -> None:
    """Read up to the roll call's last text, and the ``tail`` bytes after it."""
    sock.settimeout(PATIENCE)
    heard = b""
    while not heard.endswith(_END, 0, max(0, len(heard) - tail)):
        received = sock.recv(65536)
        if not received:
            raise RuntimeError("the server closed a client's connection")
        heard = heard[-len(_END) - tail :] + received
    sock.setblocking(False)


def _connect(port: int, trust: ssl.SSLContext | None, *, reads: bool) -> socket.socket:
    sock = socket.socket()
    sock.settimeout(PATIENCE)
    if not reads:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _STALLED_BUFFER)
    # Its own port: a server on one port may get the same one as a server on another.
    sock.bind(("127.0.0.1", 0))
    sock.connect(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if trust:
        sock = trust.wrap_socket(sock, server_hostname="127.0.0.1")
    sock.setblocking(False)
    return sock


def _request(path: str, subprotocol: str | None) -> bytes:
    asked = f"Sec-WebSocket-Protocol: {subprotocol}\r\n" if subprotocol else ""
    return (
        f"GET {path} HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n{asked}\r\n"
    ).encode()


def _receive(sock: socket.socket) -> bytes:
    """Return the available bytes; nothing if a TLS record is incomplete."""
    try:
        received = sock.recv(65536)
    except (BlockingIOError, ssl.SSLWantReadError):
        return b""
    if not received:
        raise RuntimeError("the server closed a client's connection")
    return received
