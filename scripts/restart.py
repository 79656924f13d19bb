#!/usr/bin/env python3
"""Measures a restart of a server under its clients: refusals, losses, and when all are back.

A first server runs on SQLite; its successor takes the port over with ``--take-over``. The clients
are the state machines of the Python client, on sockets of this process: they come back when they
are asked to, and say again what was not acknowledged. ``scripts/restart.py`` needs Linux and
``pip install '.[test]'``.
"""

from __future__ import annotations

import argparse
import heapq
import os
import random
import resource
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from syncchat.chat import events
from syncchat.client.events import Gap
from syncchat.client.protocol import Protocol
from syncchat.errors import ConnectionClosed

SCRIPTS = Path(__file__).resolve().parent
sys.path.insert(0, str(SCRIPTS))

from benchmark.frames import client_frame  # noqa: E402

FLAGS = ["--rate=0", "--connect-rate=0", "--no-notices", "--greeting=", "--no-log-messages"]

#: Clients in a room, and connections that may be opening at a time at the start.
ROOM, AT_ONCE = 50, 64

#: A second in which the server uses more than this share of a core is a saturated one.
SATURATED = 0.9


def main() -> int:
    """Print the figures. Exit code 1 if anybody was refused, or anything lost or doubled."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    add = parser.add_argument
    add("--clients", type=int, default=2000, help="how many (default: 2000)")
    add("--rate", type=float, default=100.0, help="messages per second over all (default: 100)")
    add("--seconds", type=float, default=5.0, help="before the restart (default: 5)")
    args = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        free.close()
        os.environ["XDG_RUNTIME_DIR"] = folder
        engine = f"--engine=sqlite:{folder}/chat.db"
        command = [sys.executable, str(SCRIPTS / "server.py"), f"--port={port}", engine, *FLAGS]
        log = Path(folder, "log").open("w")  # noqa: SIM115 - closed with the process
        run = Run(port, args.clients, args.rate)
        old = subprocess.Popen(command, stdout=log, stderr=log)
        new = None
        try:
            run.begin()
            run.go_on(args.seconds)
            new = subprocess.Popen([*command, "--take-over"], stdout=log, stderr=log)
            return run.restart(psutil.Process(new.pid))
        finally:
            for process in (old, new):
                if process is not None:
                    process.terminate()
                    process.wait()
            log.close()


class Visitor:
    """One client: the state machine, and its socket while it is connected."""

    def __init__(self, number: int, port: int) -> None:
        room = f"room{number // ROOM}"
        self.protocol = Protocol(f"ws://127.0.0.1:{port}/{room}?nick=n{number}")
        self.sock: socket.socket | None = None
        self.data = b""
        self.opened = self.was_closed = False
        #: How often each text was shown.
        self.shown: Counter[str] = Counter()
        self.gaps = 0
        self.number, self.room = number, number // ROOM


class Run:
    """The clients, and what has happened to them."""

    def __init__(self, port: int, count: int, rate: float) -> None:
        self._port, self._rate = port, rate
        self._visitors = [Visitor(number, port) for number in range(count)]
        self._poll = select.epoll()
        self._there: dict[int, Visitor] = {}
        #: When absent clients connect.
        self._due: list[tuple[float, int]] = []
        #: The texts that were said, by room.
        self._said: Counter[int] = Counter()
        self._number = 0
        self.refused = 0
        self.back: list[float] = []
        #: The delays until the clients came back, by their own clocks.
        self._delays: list[float] = []

    def begin(self) -> None:
        """Connect all clients."""
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self._port)).close()
                break
            except ConnectionRefusedError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        for at in range(0, len(self._visitors), AT_ONCE):
            group = self._visitors[at : at + AT_ONCE]
            for each in group:
                self._connect(each)
            while not all(each.protocol.ready for each in group):
                self._step(0.1)

    def go_on(self, seconds: float) -> None:
        """Talk for so many seconds."""
        end = time.monotonic() + seconds
        begin, said = time.monotonic(), 0
        while (now := time.monotonic()) < end:
            while said < (now - begin) * self._rate:
                self._say()
                said += 1
            self._step(0.01)

    def restart(self, process: psutil.Process) -> int:
        """Go on through the restart and the return of all, and print the figures."""
        begin = time.monotonic()
        self.back.clear()
        loads: list[float] = []
        while not all(each.was_closed and each.protocol.ready for each in self._visitors):
            before, at = _cpu(process), time.monotonic()
            self.go_on(1.0)
            loads.append((_cpu(process) - before) / (time.monotonic() - at))
            if time.monotonic() - begin > 120:
                break
        self.go_on(2.0)
        self._rate = 0.0
        self.go_on(2.0)
        waits = sorted(each - begin for each in self.back)
        missing = sum(not each.protocol.ready for each in self._visitors)
        lost = doubled = 0
        for each in self._visitors:
            lost += self._said[each.room] - len(each.shown)
            doubled += sum(count - 1 for count in each.shown.values())
        gaps = sum(each.gaps for each in self._visitors)
        busiest = max(Counter(int(wait) for wait in waits).values(), default=0)
        print(f"clients {len(self._visitors)}, refused {self.refused}, not back {missing}")
        print(f"messages {self._number}, lost {lost}, doubled {doubled}, gaps {gaps}")
        asked = max(Counter(int(each) for each in self._delays).values(), default=0)
        print(
            f"delays {min(self._delays):.1f} to {max(self._delays):.1f} s, at most {asked} in one"
        )
        print(f"back after {waits[0]:.1f} to {waits[-1]:.1f} s, at most {busiest} in a second")
        print(f"CPU of the new server by second: {' '.join(f'{each:.0%}' for each in loads)}")
        print(f"seconds over {SATURATED:.0%}: {sum(each > SATURATED for each in loads)}")
        return int(bool(self.refused or missing or lost or doubled or gaps))

    def _say(self) -> None:
        visitor = random.choice(self._visitors)  # noqa: S311
        nonce = f"x{self._number}"
        text = f"message {self._number}"
        if visitor.protocol.say(events.Say(text, nonce), time.monotonic()):
            self._number += 1
            self._said[visitor.room] += 1
            self._pump(visitor)

    def _step(self, timeout: float) -> None:
        """Read what arrives in ``timeout`` seconds, and connect the clients that are due."""
        for number, _ in self._poll.poll(timeout):
            visitor = self._there[number]
            assert visitor.sock is not None
            try:
                data = visitor.sock.recv(262144)
            except BlockingIOError:
                continue
            except OSError:
                data = b""
            if data:
                visitor.data += data
                self._take(visitor)
            else:
                self._lose(visitor, 1006, "")
        while self._due and self._due[0][0] <= time.monotonic():
            self._connect(self._visitors[heapq.heappop(self._due)[1]])

    def _connect(self, visitor: Visitor) -> None:
        url = urlsplit(visitor.protocol.url)
        sock = socket.socket()
        visitor.sock, visitor.data, visitor.opened = sock, b"", False
        try:
            sock.connect(("127.0.0.1", self._port))
        except OSError:
            self.refused += 1
            self._lose(visitor, 1006, "")
            return
        sock.sendall(
            f"GET {url.path}?{url.query} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
            "AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: syncchat.v1\r\n\r\n".encode()
        )
        sock.setblocking(False)
        self._there[sock.fileno()] = visitor
        self._poll.register(sock, select.EPOLLIN)

    def _take(self, visitor: Visitor) -> None:
        """Act on what has arrived."""
        if not visitor.opened:
            head, end, rest = visitor.data.partition(b"\r\n\r\n")
            if not end:
                return
            if not head.startswith(b"HTTP/1.1 101"):
                self.refused += 1
                self._lose(visitor, 1006, "")
                return
            visitor.opened, visitor.data = True, rest
            headers = {events.VERSION_HEADER.lower(): "1"}
            visitor.protocol.opened("syncchat.v1", headers, time.monotonic())
        was_ready = visitor.protocol.ready
        for opcode, payload in _frames(visitor):
            if opcode == 8:
                self._lose(visitor, int.from_bytes(payload[:2]), payload[2:].decode())
                return
            if opcode == 9:
                _send(visitor, b"\x8a" + client_frame(payload)[1:])
            elif opcode == 1:
                for event in visitor.protocol.received(payload.decode(), time.monotonic()):
                    if isinstance(event, events.Message):
                        visitor.shown[event.text] += 1
                    visitor.gaps += isinstance(event, Gap)
        if visitor.protocol.ready and not was_ready:
            self.back.append(time.monotonic())
        self._pump(visitor)

    def _pump(self, visitor: Visitor) -> None:
        """Send what the client has to send."""
        while visitor.opened and (text := visitor.protocol.next()) is not None:
            visitor.protocol.sent()
            _send(visitor, client_frame(text.encode()))

    def _lose(self, visitor: Visitor, code: int, reason: str) -> None:
        """Note the end of a connection, and when the client comes back."""
        sock, visitor.sock, visitor.opened = visitor.sock, None, False
        assert sock is not None
        if self._there.pop(sock.fileno(), None) is not None:
            self._poll.unregister(sock)
        sock.close()
        visitor.was_closed = True
        delay = visitor.protocol.closed(ConnectionClosed(code, reason))
        assert delay is not None, (code, reason)
        self._delays.append(delay)
        heapq.heappush(self._due, (time.monotonic() + delay, visitor.number))


def _send(visitor: Visitor, data: bytes) -> None:
    assert visitor.sock is not None
    try:
        visitor.sock.send(data)
    except OSError:
        return  # The end of the connection is read next.


def _frames(visitor: Visitor) -> Iterator[tuple[int, bytes]]:
    """The whole frames that have arrived from the server."""
    data, at = visitor.data, 0
    while len(data) - at >= 2:
        size, begin = data[at + 1], at + 2
        if size >= 126:
            width = 2 if size == 126 else 8
            size, begin = int.from_bytes(data[begin : begin + width]), begin + width
        if len(data) < begin + size:
            break
        yield data[at] & 15, data[begin : begin + size]
        at = begin + size
    visitor.data = data[at:]


def _cpu(process: psutil.Process) -> float:
    times: Sequence[float] = process.cpu_times()
    return times[0] + times[1]


if __name__ == "__main__":
    raise SystemExit(main())
