"""Thousands of clients that join, leave or are disconnected at the same time."""

from __future__ import annotations

import selectors
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil
import pytest

from tests.peer import PATIENCE, read_head, upgrade_request, wait_for
from tests.people import Plain
from tests.processes import ServerScript

#: Seconds in which a crowd has come or gone, and in which a member of another room
#: is served meanwhile. On an idle machine with two cores 10,000 clients are gone after
#: 4 seconds; other programs may be running.
CROWD_SECONDS, BYSTANDER_SECONDS = 60.0, 5.0

CROWDS = [pytest.param(300), pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.alone])]


class Crowd:
    """Plain clients in one room that read everything."""

    def __init__(self, port: int, size: int) -> None:
        self._port = port
        self._selector = selectors.DefaultSelector()
        self.sockets: list[socket.socket] = []
        self._stop = threading.Event()
        self._reader = threading.Thread(target=self._read, name="crowd")
        for _ in range(size):
            sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
            sock.sendall(upgrade_request())
            self.sockets.append(sock)
        for sock in self.sockets:
            head, _ = read_head(sock)
            assert head.startswith(b"HTTP/1.1 101 ")
            sock.setblocking(False)
            self._selector.register(sock, selectors.EVENT_READ)
        self._reader.start()

    def _read(self) -> None:
        while not self._stop.is_set():
            for key, _ in self._selector.select(0.05):
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                try:
                    more = sock.recv(262_144)
                except BlockingIOError:
                    continue
                except ConnectionResetError:
                    more = b""
                if not more:
                    self._selector.unregister(sock)

    def leave(self) -> None:
        """Close all sockets, without a closing handshake."""
        self._stop.set()
        self._reader.join()
        self._selector.close()
        for sock in self.sockets:
            sock.close()


@contextmanager
def bystander(url: str) -> Iterator[list[float]]:
    """Send messages in another room all the time; the seconds until each echo."""
    waits: list[float] = []
    over = threading.Event()

    def talk() -> None:
        with Plain(f"{url}elsewhere?nick=bystander") as client:
            number = 0
            while not over.wait(0.05):
                number += 1
                said_at = time.monotonic()
                client.send(f"number {number}")
                client.hear_until(f"bystander: number {number}")
                waits.append(time.monotonic() - said_at)

    talking = threading.Thread(target=talk, name="bystander")
    talking.start()
    try:
        wait_for(lambda: waits)
        yield waits
    finally:
        over.set()
        talking.join()


def wait_long(condition: Callable[[], bool], what: str) -> None:
    """Wait for a crowd, and check rarely enough not to slow the server down."""
    deadline = time.monotonic() + CROWD_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.05)


def count(server: ServerScript, ending: str) -> int:
    return sum(ending in line for line in list(server.lines))


@pytest.mark.timeout(180)
@pytest.mark.parametrize("size", CROWDS)
def test_a_crowd_can_leave_at_once(many_files: None, size: int) -> None:
    """Issue 13, item 21: the cost of leaving does not grow with the number of clients that
    leave.
    """
    with ServerScript() as server, bystander(server.url) as waits:
        process = psutil.Process(server.process.pid)
        alone = process.num_threads()
        crowd = Crowd(server.port, size)
        waits.clear()
        crowd.leave()
        # The bystander has a thread once it exceeds the rate limit.
        wait_long(lambda: process.num_threads() <= alone + 1, "the end of the threads")
        wait_for(lambda: waits)
        assert max(waits) < BYSTANDER_SECONDS
        wait_long(lambda: count(server, " disconnected") == size, "the log")


@pytest.mark.timeout(180)
@pytest.mark.parametrize("size", CROWDS)
def test_a_stop_joins_every_thread_of_an_unresponsive_crowd(many_files: None, size: int) -> None:
    """Issue 13, item 21: every thread is joined, even if ending takes long."""
    with ServerScript() as server:
        crowd = Crowd(server.port, size)
        stopped_at = time.monotonic()
        server.signal(signal.SIGTERM)
        assert server.process.wait(CROWD_SECONDS) == 0
        assert time.monotonic() - stopped_at < CROWD_SECONDS
        crowd.leave()
        assert server.exit_code() == 0
        assert server.errors == []


@pytest.mark.timeout(180)
@pytest.mark.parametrize("size", CROWDS)
def test_a_crowd_can_join_at_once(many_files: None, size: int) -> None:
    """Issue 13, item 21: a crowd that joins does not block another room."""
    with ServerScript() as server, bystander(server.url) as waits:
        waits.clear()
        crowd = Crowd(server.port, size)
        wait_long(lambda: count(server, "New connection") == size + 1, "the log")
        wait_for(lambda: waits)
        assert max(waits) < BYSTANDER_SECONDS
        crowd.leave()
