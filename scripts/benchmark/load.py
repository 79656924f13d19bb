"""The load: sends messages at a rate or with a number in flight, and counts the deliveries.

Deliveries are counted by their bytes. Either all frames of a run have one size, or the
sizes are learned from the few clients whose frames are parsed to measure the latency. A
message counts as in flight until its room has had as many deliveries as it has members.
"""

from __future__ import annotations

import itertools
import select
import socket
import ssl
import time
from collections.abc import Callable, Sequence

from .clients import PATIENCE
from .dialects import Dialect
from .frames import client_frame

__all__ = ["SEQUENCE_DIGITS", "Load"]

#: The digits of the number at the beginning of each text.
SEQUENCE_DIGITS = 10

#: Clients whose frames are parsed.
_OBSERVERS = 4
#: The same for a run with a rate, whose few messages leave time for more clients.
_PACED_OBSERVERS = 20


class _Room:
    """The reading clients of a room, and their progress."""

    def __init__(self, clients: Sequence[socket.socket], senders: int) -> None:
        self.audience = len(clients)
        self.senders = itertools.cycle(clients[:senders])
        self.sent = 0
        self.received = 0


class Load:
    """Clients in their rooms, and what they have received.

    In each of ``rooms``, ``senders`` of the clients take turns to send, in ``dialect``.
    Each room keeps ``in_flight`` messages on their way, or sends ``rate`` messages a
    second. ``far`` are the clients whose latencies are listed apart.
    """

    def __init__(
        self,
        rooms: Sequence[Sequence[socket.socket]],
        dialect: Dialect,
        *,
        senders: int,
        in_flight: int,
        rate: float | None,
        size: int,
        far: Sequence[socket.socket] = (),
    ) -> None:
        clients = [sock for room in rooms for sock in room]
        #: Bytes received.
        self.received = 0
        #: Seconds from sending to receiving, at the clients whose frames are parsed.
        self.latencies: list[float] = []
        #: The same at the clients of ``far``.
        self.far_latencies: list[float] = []
        self._far = {sock.fileno() for sock in far}
        self._rooms = [_Room(room, senders) for room in rooms]
        self._in_flight = in_flight
        self._rate = rate
        self._started_at = 0.0
        self._dialect = dialect
        self._frames = dialect.frames(clients, size)
        #: Where a text begins, in bytes before the end of its frame.
        self._text_at = size + dialect.tail
        self._padding = b"x" * (size - SEQUENCE_DIGITS)
        #: The next message's number, and the time when each message was sent.
        self._number = 0
        self._sent_at: dict[int, float] = {}
        self._where = {
            sock.fileno(): (sock, room)
            for members, room in zip(rooms, self._rooms, strict=True)
            for sock in members
        }
        #: The bytes that each client has received, and the rooms with new deliveries
        #: since the last refill.
        self._had = dict.fromkeys(self._where, 0)
        self._moved = set(self._rooms)
        observers = _OBSERVERS if rate is None else _PACED_OBSERVERS
        step = max(1, len(clients) // observers)
        self._rests = {sock.fileno(): b"" for sock in clients[::step]}
        self._buffer = bytearray(1 << 20)
        self._poll = select.epoll()
        for sock in clients:
            self._poll.register(sock, select.EPOLLIN)

    @property
    def deliveries(self) -> float:
        """How many messages have been delivered, added up over all clients."""
        return self._frames.deliveries(self.received)

    def close(self) -> None:
        self._poll.close()

    def run_for(self, seconds: float) -> float:
        """Send for so many seconds. Returns the time that it took."""
        begin = time.monotonic()
        self._run_until(lambda: time.monotonic() >= begin + seconds)
        return time.monotonic() - begin

    def run_through(self, megabytes: float) -> float:
        """Send until so many more megabytes have been received. Returns the seconds."""
        begin = time.monotonic()
        goal = self.received + megabytes * 1e6
        self._run_until(lambda: self.received >= goal)
        return time.monotonic() - begin

    def send_one(self) -> None:
        """Send one message in the first room, whatever is in flight."""
        self._send(self._rooms[0], 1)

    def settle(self) -> None:
        """Wait until every message has arrived. Raises :class:`RuntimeError` for a loss."""
        self._run_until(
            lambda: all(self._arrived(room) >= room.sent for room in self._rooms), sending=False
        )
        for number, (_, room) in self._where.items():
            expected = self._frames.extent(room.sent)
            if self._had[number] != expected:
                raise RuntimeError(f"a client got {self._had[number]} bytes instead of {expected}")

    def _arrived(self, room: _Room) -> int:
        """Return how many messages have had as many deliveries as the room has members."""
        return self._frames.whole(room.received // room.audience)

    def _run_until(self, over: Callable[[], bool], *, sending: bool = True) -> None:
        last = time.perf_counter()
        if self._rate is not None:
            self._started_at = last - self._rooms[0].sent / self._rate
        while not over():
            if sending:
                self._refill()
            before = self.received
            self._receive_all(self._pause() if sending else 1.0)
            now = time.perf_counter()
            if self.received != before:
                last = now
            elif now - last > PATIENCE:
                raise RuntimeError("the server stopped delivering")

    def _pause(self) -> float:
        """Return the seconds until the next message is due; 1 if there is no rate."""
        if self._rate is None:
            return 1.0
        due = self._started_at + self._rooms[0].sent / self._rate
        return max(0.0, due - time.perf_counter())

    def _refill(self) -> None:
        """Send the messages that are due."""
        if self._rate is not None:
            passed = time.perf_counter() - self._started_at
            for room in self._rooms:
                self._send(room, int(passed * self._rate) + 1 - room.sent)
            return
        # Rooms with deliveries during a blocked send are checked again later.
        moved, self._moved = self._moved, set()
        for room in moved:
            self._send(room, self._in_flight - (room.sent - self._arrived(room)))

    def _send(self, room: _Room, count: int) -> None:
        outgoing: dict[socket.socket, list[bytes]] = {}
        now = time.perf_counter()
        for ahead in range(count):
            text = b"%0*d" % (SEQUENCE_DIGITS, self._number) + self._padding
            sender = next(room.senders)
            payload = self._dialect.write(sender, text)
            outgoing.setdefault(sender, []).append(client_frame(payload))
            # Count from the time when the message was due, so that a server cannot hide
            # its own delay.
            due = self._started_at + (room.sent + ahead) / self._rate if self._rate else now
            self._sent_at[self._number] = due
            self._number += 1
        room.sent += count
        for sock, frames in outgoing.items():
            data = b"".join(frames)
            while data:
                try:
                    data = data[sock.send(data) :]
                except (BlockingIOError, ssl.SSLWantWriteError):
                    # The server makes its senders wait: read what it has sent.
                    self._receive_all(1.0)

    def _receive_all(self, timeout: float) -> None:
        """Read what has arrived. Waits ``timeout`` seconds at most."""
        for number, _ in self._poll.poll(timeout):
            sock, room = self._where[number]
            self._receive(number, sock, room)
            # Data that TLS has already decrypted does not make the descriptor readable.
            while isinstance(sock, ssl.SSLSocket) and sock.pending():
                self._receive(number, sock, room)
            self._moved.add(room)

    def _receive(self, number: int, sock: socket.socket, room: _Room) -> None:
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
        room.received += count
        self._had[number] += count

    def _observe(self, number: int, data: bytes) -> None:
        now = time.perf_counter()
        latencies = self.far_latencies if number in self._far else self.latencies
        start = 0
        for end in self._frames.ends(data, self._had[number] - len(self._rests[number])):
            at = end - self._text_at
            shown = data[at : at + SEQUENCE_DIGITS]
            if not shown.isdigit():
                raise RuntimeError(
                    f"the received data differs from the sent data: {data[start:end][:200]!r}"
                )
            latencies.append(now - self._sent_at[int(shown)])
            start = end
        self._rests[number] = data[start:]
