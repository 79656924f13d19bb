#!/usr/bin/env python3
"""Measures chat servers side by side, in one run on one machine.

Each server runs in a process of its own, in turn, for several rounds; the
medians are reported, and the ratios to ours. What is sent by a client reaches
every client as ``address: text``. ``python scripts/bench.py --help`` lists the
flags; ``pip install .[bench]`` brings what it needs.

The load runs in this process, on one core; where its own use of it comes near
100 %, it was the limit and not the server.
"""

from __future__ import annotations

import argparse
import gc
import platform
import resource
import signal
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

from benchload import PATIENCE, SEQUENCE_DIGITS, Load, Workload, open_client, roll_call

try:
    import psutil
    import tqdm
    import trustme
except ModuleNotFoundError as exc:
    sys.exit(f"The module {exc.name!r} is missing: pip install '.[bench]' brings it")

SCRIPTS = Path(__file__).resolve().parent

#: The servers by name: what to run with the port behind it.
SERVERS: dict[str, list[str]] = {
    "syncchat": [str(SCRIPTS / "server.py"), "--quiet", "--greeting=", "--rate=0", "--port"],
    "websockets-asyncio": [str(SCRIPTS / "peers" / "websockets_asyncio.py")],
    "websockets-threads": [str(SCRIPTS / "peers" / "websockets_threads.py")],
}
OURS = "syncchat"
#: Ours once more, over TLS. Only when asked for, since its clients cost more, too.
OURS_TLS = "syncchat-tls"

#: Seconds before the measurement begins.
WARM_UP = 0.5


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


@dataclass
class Certificate:
    """What a server over TLS shows, and its clients trust."""

    flags: list[str]
    trust: ssl.SSLContext

    @classmethod
    def make(cls, folder: Path) -> Certificate:
        authority = trustme.CA()
        path = folder / "certificate.pem"
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(path)
        trust = ssl.create_default_context()
        authority.configure_trust(trust)
        return cls(["--tls-cert", str(path)], trust)


@contextmanager
def running(name: str, certificate: Certificate | None) -> Iterator[tuple[psutil.Process, int]]:
    """The server ``name`` in a process of its own, and its port."""
    command = [sys.executable, *SERVERS[OURS if certificate else name], "0"]
    command += certificate.flags if certificate else []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            if name in (OURS, OURS_TLS):
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


def measure(name: str, workload: Workload, certificate: Certificate) -> Result:
    """One run of one server."""
    shown = certificate if name == OURS_TLS else None
    trust = shown.trust if shown else None
    with running(name, shown) as (process, port):
        memory = process.memory_info().rss
        load = Load([open_client(port, trust) for _ in range(workload.connections)], workload)
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
        choices=[*SERVERS, OURS_TLS],
        help="which to measure; give it several times for several (all, but not over TLS)",
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
    with (
        tempfile.TemporaryDirectory() as folder,
        tqdm.tqdm(total=options.rounds * len(names), unit="run", leave=False) as progress,
    ):
        certificate = Certificate.make(Path(folder))
        for _ in range(options.rounds):
            for name in names:
                progress.set_description(name)
                try:
                    results[name].append(measure(name, workload, certificate))
                except (RuntimeError, OSError) as exc:
                    failures[name] = str(exc)
                progress.update()
    print(report(workload, results))
    for name, failure in failures.items():
        print(f"{name} failed: {failure}")
    return 1 if OURS in failures else 0


if __name__ == "__main__":
    sys.exit(main())
