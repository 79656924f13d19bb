#!/usr/bin/env python3
"""Measures what it costs the server that clients watch rooms.

Each client sits in one room and watches all others. Rounds without and with watching alternate
on the same server and connections, so that other load of the machine affects both alike.
``scripts/watching.py`` needs Linux and ``pip install '.[test]'``.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import select
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

SCRIPTS = Path(__file__).resolve().parent
sys.path.insert(0, str(SCRIPTS))

from benchmark.clients import hang_up, open_clients  # noqa: E402
from benchmark.dialects import Events  # noqa: E402
from benchmark.frames import client_frame  # noqa: E402
from benchmark.servers import listening_port  # noqa: E402

#: Seconds that the server gets to answer a request of all clients.
SETTLE = 3.0

FLAGS = ["--quiet", "--greeting=", "--rate=0", "--ping-interval=0", "--no-notices", "--port=0"]


def main() -> int:
    """Print the CPU and the memory of the server, without and with watching."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    add = parser.add_argument
    add("--clients", type=int, default=1000, help="how many (default: 1000)")
    add("--watched", type=int, default=50, help="rooms that each client watches (default: 50)")
    add("--rate", type=float, default=100.0, help="messages per second over all (default: 100)")
    add("--seconds", type=float, default=10.0, help="of a round (default: 10)")
    add("--rounds", type=int, default=5, help="of each kind (default: 5)")
    args = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, args.clients + 200), most))
    command = [sys.executable, str(SCRIPTS / "server.py"), *FLAGS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        clients: Sequence[socket.socket] = ()
        try:
            rooms = [f"room{number}" for number in range(args.watched + 1)]
            port = listening_port(process)
            places = [(port, f"/{rooms[n % len(rooms)]}?nick=n{n}") for n in range(args.clients)]
            clients = open_clients(places, Events())
            measure(psutil.Process(process.pid), clients, rooms, args)
        finally:
            hang_up(clients)
            process.terminate()
    return 0


def measure(
    server: psutil.Process,
    clients: Sequence[socket.socket],
    rooms: Sequence[str],
    args: argparse.Namespace,
) -> None:
    """Run the rounds, and print the figures."""
    cpu: dict[bool, list[float]] = {False: [], True: []}
    heard: dict[bool, list[int]] = {False: [], True: []}
    talk(clients, args.rate, args.seconds)
    threads, before = server.num_threads(), server.memory_info().rss
    grown: list[int] = []
    wanted = {"watch": [{"room": room} for room in rooms], "unwatch": list(rooms)}
    for _ in range(args.rounds):
        for watches in (False, True):
            kind = "watch" if watches else "unwatch"
            request = json.dumps({"type": kind, "rooms": wanted[kind]}).encode()
            for sock in clients:
                sock.send(client_frame(request))
            talk(clients, 0.0, SETTLE)
            if watches:
                grown.append(server.memory_info().rss - before)
            begin = sum(server.cpu_times()[:2])
            heard[watches].append(talk(clients, args.rate, args.seconds))
            cpu[watches].append((sum(server.cpu_times()[:2]) - begin) / args.seconds)
    without, with_ = (statistics.median(cpu[watches]) for watches in (False, True))
    for watches, name in ((False, "without"), (True, "with")):
        rounds = ", ".join(f"{1000 * each:.0f}" for each in cpu[watches])
        size = statistics.median(heard[watches]) / args.seconds / 1024
        print(f"{name} watching: {rounds} ms of CPU a second; {size:.0f} KiB/s to the clients")
    print(f"medians: {1000 * without:.0f} and {1000 * with_:.0f} ms: {with_ / without:.2f} times")
    pairs = len(clients) * len(rooms)
    print(f"memory: {max(grown) / pairs:.0f} bytes for each of {pairs:,} watched rooms")
    print(f"threads: {threads} before, {server.num_threads()} after")


def talk(clients: Sequence[socket.socket], rate: float, seconds: float) -> int:
    """Send messages from random clients, and read everything. Returns the bytes read."""
    begin = time.monotonic()
    sent = heard = 0
    with select.epoll() as poll:
        numbers = {sock.fileno(): sock for sock in clients}
        for number in numbers:
            poll.register(number, select.EPOLLIN)
        while (passed := time.monotonic() - begin) < seconds:
            while sent < rate * passed:
                sent += 1
                text = json.dumps({"type": "say", "text": f"message {sent} of the load"})
                random.choice(clients).send(client_frame(text.encode()))  # noqa: S311
            for number, _ in poll.poll(0.002):
                heard += len(numbers[number].recv(65536))
    return heard


if __name__ == "__main__":
    sys.exit(main())
