#!/usr/bin/env python3
"""Measures chat servers side by side, in one run on one machine.

Each server runs in a process of its own, in turn, for several rounds; the
medians are reported, and the ratios to ours. What is sent by a client reaches
every client as ``address: text``. ``python scripts/bench.py --help`` lists the
flags; ``pip install .[bench]`` brings what it needs.

A message is in flight until every client has it. Deliveries are counted by
their bytes, since all frames of a run have one size; a few clients are read
frame by frame, for the latency. The load runs in this process, on one core;
where its own use of it comes near 100 %, it was the limit and not the server.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import platform
import resource
import select
import selectors
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parent
sys.path.insert(0, str(SCRIPTS.parent))

try:
    import psutil
    import tqdm
except ModuleNotFoundError as exc:
    sys.exit(f"The module {exc.name!r} is missing: pip install '.[bench]' brings it")

#: The servers by name: what to run with the port behind it.
SERVERS: dict[str, list[str]] = {
    "syncchat": [str(SCRIPTS / "server.py"), "--quiet", "--greeting=", "--rate=0", "--port"],
    "websockets-asyncio": [str(SCRIPTS / "peers" / "websockets_asyncio.py")],
    "websockets-threads": [str(SCRIPTS / "peers" / "websockets_threads.py")],
}
OURS = "syncchat"

#: Clients whose frames are read one by one.
OBSERVERS = 4
#: Seconds before the measurement begins.
WARM_UP = 0.5
#: Seconds without a single delivery after which a server is given up.
PATIENCE = 10.0

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


@dataclass
class Result:
    """What one run of one server gave."""

    deliveries: float = 0.0
    cpu: float = 0.0
    p50: float = 0.0
    p99: float = 0.0
    threads: float = 0.0
    memory: float = 0.0
    load: float = 0.0


# How a figure is called, and how it is written.
COLUMNS: dict[str, tuple[str, str]] = {
    "deliveries": ("deliveries/s", "{:,.0f}"),
    "cpu": ("CPU us/delivery", "{:.2f}"),
    "p50": ("p50 ms", "{:.2f}"),
    "p99": ("p99 ms", "{:.2f}"),
    "threads": ("threads", "{:.0f}"),
    "memory": ("KB/connection", "{:.1f}"),
    "load": ("load CPU %", "{:.0f}"),
}


@contextmanager
def running(name: str) -> Iterator[tuple[psutil.Process, int]]:
    """The server ``name`` in a process of its own, and its port."""
    command = [sys.executable, *SERVERS[name], "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            if name == OURS:
                port = port_of(process.pid)
            else:
                port = int(process.stdout.readline().rsplit(" ", 1)[1])
            yield psutil.Process(process.pid), port
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def port_of(pid: int) -> int:
    """The port at which a process listens that prints nothing."""
    deadline = time.monotonic() + PATIENCE
    process = psutil.Process(pid)
    while time.monotonic() < deadline:
        for connection in process.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN:
                return int(connection.laddr.port)
        time.sleep(0.01)
    raise RuntimeError("the server does not listen")


def open_client(port: int) -> socket.socket:
    """A raw socket behind the opening handshake."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
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
        rest = self._rests.get(number)
        try:
            if rest is None:
                count = sock.recv_into(self._buffer)
            else:
                data = sock.recv(1 << 20)
                count = len(data)
                self._observe(number, rest + data)
        except BlockingIOError:
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


def measure(name: str, workload: Workload) -> Result:
    """One run of one server."""
    with running(name) as (process, port):
        memory = process.memory_info().rss
        load = Load([open_client(port) for _ in range(workload.connections)], workload)
        try:
            roll_call(load.clients)
            threads = process.num_threads()
            memory = process.memory_info().rss - memory
            warm = time.monotonic() + WARM_UP
            load.run_until(lambda: time.monotonic() >= warm)
            load.latencies.clear()
            delivered = load.deliveries
            cpu, own = sum(process.cpu_times()[:2]), time.process_time()
            begin = time.monotonic()
            if workload.megabytes is None:
                end = begin + workload.seconds
                load.run_until(lambda: time.monotonic() >= end)
            else:
                goal = load.received + workload.megabytes * 1e6
                load.run_until(lambda: load.received >= goal)
            took = time.monotonic() - begin
            cpu, own = sum(process.cpu_times()[:2]) - cpu, time.process_time() - own
            delivered = load.deliveries - delivered
            # What is under way arrives, or the server lost it.
            expected = load.sent * load.frame * len(load.readers)
            load.run_until(lambda: load.received >= expected, refill=False)
            if load.received != expected:
                raise RuntimeError(f"{load.received} bytes arrived instead of {expected}")
        finally:
            load.close()
    latencies = sorted(load.latencies) or [0.0]
    return Result(
        deliveries=delivered / took,
        cpu=cpu / delivered * 1e6,
        p50=latencies[len(latencies) // 2] * 1e3,
        p99=latencies[len(latencies) * 99 // 100] * 1e3,
        threads=threads,
        memory=memory / workload.connections / 1024,
        load=own / took * 100,
    )


def median(results: list[Result]) -> Result:
    """The median of each figure."""
    names = [item.name for item in fields(Result)]
    return Result(**{n: statistics.median(getattr(r, n) for r in results) for n in names})


def ratio(figure: float, ours: float) -> str:
    """The ratio to ours; a run can be too short for the clock of the processor time."""
    return f"{figure / ours:.2f}" if ours else "-"


def report(workload: Workload, results: dict[str, list[Result]]) -> str:
    """The table: a row a server, and the ratios of each to ours."""
    medians = {name: median(rounds) for name, rounds in results.items() if rounds}
    ours = medians.get(OURS)
    rows = [["server", *(title for title, _ in COLUMNS.values()), "deliveries/s x", "CPU x"]]
    for name, result in medians.items():
        row = [name, *(form.format(getattr(result, key)) for key, (_, form) in COLUMNS.items())]
        if ours is not None:
            row += [ratio(result.deliveries, ours.deliveries), ratio(result.cpu, ours.cpu)]
        rows.append(row)
    widths = [max(map(len, column)) for column in zip(*rows, strict=False)]
    lines = [
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=False))
        )
        for row in rows
    ]
    rounds = max(map(len, results.values()))
    head = f"{workload.describe()}; medians of {rounds} rounds in turn"
    machine = f"Python {platform.python_version()}, {platform.system()}, {psutil.cpu_count()} cores"
    return "\n".join([head, machine, *lines, f"x: the ratio to {OURS}"])


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--connections", type=int, default=100, help="clients (%(default)s)")
    parser.add_argument(
        "--senders", type=int, default=1, help="how many of them send in turn; 0 for all (1)"
    )
    parser.add_argument(
        "--in-flight", type=int, default=8, help="messages on their way at a time (%(default)s)"
    )
    parser.add_argument("--size", type=int, default=64, help="bytes of a text (%(default)s)")
    parser.add_argument(
        "--stalled", type=int, default=0, help="how many clients never read (%(default)s)"
    )
    extent = parser.add_mutually_exclusive_group()
    extent.add_argument("--seconds", type=float, default=3.0, help="a run's length (%(default)s)")
    extent.add_argument("--megabytes", type=float, help="a run's length, in what all receive")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each server (%(default)s)")
    parser.add_argument(
        "--server",
        action="append",
        choices=list(SERVERS),
        help="which to measure; give it several times for several (all)",
    )
    options = parser.parse_args(argv)
    if options.senders == 0:
        options.senders = options.connections - options.stalled
    if not SEQUENCE_DIGITS <= options.size <= 65000:
        parser.error(f"--size is from {SEQUENCE_DIGITS} to 65000")
    if (options.megabytes or options.seconds) <= 0:
        parser.error("--seconds and --megabytes are more than 0")
    if min(options.connections, options.in_flight, options.rounds, options.senders) < 1:
        parser.error("--connections, --in-flight and --rounds are at least 1")
    if options.senders > options.connections - options.stalled:
        parser.error("--senders are among the clients that read")
    return options


def allow_files(count: int) -> None:
    """Ask the system for enough descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(count, hard), hard))


def main(argv: list[str] | None = None) -> int:
    options = parse(argv)
    workload = Workload(
        options.connections,
        options.senders,
        options.in_flight,
        options.size,
        options.stalled,
        options.seconds,
        options.megabytes,
    )
    allow_files(options.connections + 64)
    gc.disable()
    names = options.server or list(SERVERS)
    results: dict[str, list[Result]] = {name: [] for name in names}
    failures: dict[str, str] = {}
    with tqdm.tqdm(total=options.rounds * len(names), unit="run", leave=False) as progress:
        for _ in range(options.rounds):
            for name in names:
                progress.set_description(name)
                try:
                    results[name].append(measure(name, workload))
                except (RuntimeError, OSError) as exc:
                    failures[name] = str(exc)
                progress.update()
    print(report(workload, results))
    for name, failure in failures.items():
        print(f"{name} failed: {failure}")
    return 1 if OURS in failures else 0


if __name__ == "__main__":
    sys.exit(main())
