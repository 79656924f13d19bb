"""Thousands of hostile clients against the real server: the next honest one is served at once.

What they do is drawn at random; the seed is printed, and SYNCCHAT_SEED repeats a run.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Iterator

import psutil
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from wsproto.events import TextMessage

from tests import processes
from tests.peer import PATIENCE, Peer, read_head, upgrade_request, wait_for
from tests.processes import SERVER, Script

SEED = int(os.environ.get("SYNCCHAT_SEED", random.SystemRandom().randrange(1 << 32)))

#: Megabytes by which the process may grow: pools of the allocator, not a leak.
GROWTH = 12

FLAGS = ["--port", "0", "--rate", "0", "--greeting", "", "--no-notices", "--quiet"]
FLAGS += ["--open-timeout", "2"]

#: Each example is a connection: no shrinking by hours, no time limit for one.
EXAMPLES = settings(
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


class Target:
    """The server's process."""

    def __init__(self, script: Script) -> None:
        self.process = psutil.Process(script.process.pid)
        wait_for(self._listening)
        self.port = self._listening()
        for _ in range(300 if processes.start_afresh else 30):
            self.serves_the_honest()
        self.remember()

    def _listening(self) -> int:
        found = [c for c in self.process.net_connections("tcp") if c.status == "LISTEN"]
        return found[0].laddr.port if found else 0

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def serves_the_honest(self) -> float:
        """Serve a well-behaved client; the seconds that it took."""
        begun = time.monotonic()
        with Peer.client(self.port) as peer:
            peer.send(TextMessage(data="hello"))
            # A mutation may be a valid message of another client.
            while not peer.expect(TextMessage).data.endswith(": hello"):
                pass
        return time.monotonic() - begun

    def remember(self) -> None:
        """Record the current state as the one to return to."""
        wait_for(self.is_idle, "the threads to end")
        self._memory = self.process.memory_info().rss
        self._files = self.process.num_fds()

    def is_idle(self) -> bool:
        # The main thread, the acceptor, the reader, the I/O thread and the console: an idle
        # connection has none.
        connections = self.process.net_connections("tcp")
        return self.process.num_threads() == 5 and {each.status for each in connections} == {
            "LISTEN"
        }

    def is_as_before(self) -> None:
        """Fail unless threads, descriptors and memory are back where they were."""
        wait_for(self.is_idle, "the threads to end")
        assert self.process.num_fds() == self._files
        grown = (self.process.memory_info().rss - self._memory) / 1e6
        assert grown < GROWTH, f"{grown:.1f} MB more than before"


@pytest.fixture
def target() -> Iterator[Target]:
    with Script([*SERVER, *FLAGS]) as script:
        yield Target(script)
        script.process.terminate()
        assert script.exit_code() == 0
        assert script.errors == []


def mutations(whole: bytes) -> st.SearchStrategy[bytes]:
    """``whole`` with some bytes changed, inserted, repeated, left out, or cut off."""
    places = st.integers(0, len(whole))
    change = st.tuples(
        st.sampled_from(["change", "insert", "delete", "repeat", "cut"]),
        places,
        st.binary(min_size=1, max_size=8) | st.sampled_from([b"\r\n", b"\r\n\r\n", b":", b"\0"]),
    )

    def apply(changes: list[tuple[str, int, bytes]]) -> bytes:
        data = whole
        for what, place, piece in changes:
            head, tail = data[:place], data[place:]
            data = {
                "change": head + piece + tail[len(piece) :],
                "insert": head + piece + tail,
                "delete": head + tail[len(piece) :],
                "repeat": head + tail[: len(piece) * 50] * 3 + tail,
                "cut": head,
            }[what]
        return data

    return st.lists(change, min_size=1, max_size=4).map(apply)


FRAMES = b"".join(
    [
        b"\x81\x85\x01\x02\x03\x04"
        + bytes(a ^ b for a, b in zip(b"hello", b"\1\2\3\4\1", strict=True)),
        b"\x01\x83\x00\x00\x00\x00one\x89\x84\x00\x00\x00\x00ping\x80\x83\x00\x00\x00\x00two",
        b"\x82\xfe\x00\x80\x00\x00\x00\x00" + bytes(128),
        b"\x88\x87\x00\x00\x00\x00\x03\xe8bye!!",
    ]
)


class Stalled:
    """Silent clients that stay connected; the oldest are closed when there are many."""

    def __init__(self) -> None:
        self._socks: deque[socket.socket] = deque()

    def add(self, sock: socket.socket) -> None:
        self._socks.append(sock)
        if len(self._socks) > 200:
            self._socks.popleft().close()

    def close(self) -> None:
        while self._socks:
            self._socks.popleft().close()


def attack(target: Target, data: bytes, end: str, stalled: Stalled) -> None:
    """One hostile client."""
    sock = target.connect()
    with contextlib.suppress(ConnectionError):
        sock.sendall(data)
        if end == "stall":
            stalled.add(sock)
            return
        if end == "FIN":
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65536):
                pass
        if end == "RST":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["handshakes", "frame streams"])
@pytest.mark.parametrize("examples", [100, pytest.param(10_000, marks=pytest.mark.slow)])
def test_mutated_input_affects_no_other_client(target: Target, kind: str, examples: int) -> None:
    print(f"SYNCCHAT_SEED={SEED}")
    stalled = Stalled()
    count = 0
    if kind == "handshakes":
        whole = mutations(upgrade_request("/room?x=y", "Origin: http://test\r\nX: y\r\n"))
    else:
        whole = mutations(FRAMES).map(lambda data: upgrade_request() + data)

    @seed(SEED)
    @settings(EXAMPLES, max_examples=examples)
    @given(whole, st.sampled_from(["FIN", "FIN", "RST", "close", "stall"]))
    def run(data: bytes, end: str) -> None:
        nonlocal count
        attack(target, data, end, stalled)
        count += 1
        if count % 500 == 0:
            assert target.serves_the_honest() < 5

    run()
    assert count >= examples * 0.9
    stalled.close()
    assert target.serves_the_honest() < 5
    target.is_as_before()


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "count", [20, pytest.param(1000, marks=[pytest.mark.slow, pytest.mark.alone])]
)
@pytest.mark.slow
def test_slow_handshakes_end_at_the_deadline(target: Target, count: int) -> None:
    if count > 100:
        # The second crowd must take no more memory than the first.
        slow_handshakes(target, count)
        target.remember()
    slow_handshakes(target, count)
    target.is_as_before()


def slow_handshakes(target: Target, count: int) -> None:
    with contextlib.ExitStack() as stack:
        lorises = [stack.enter_context(target.connect()) for _ in range(count)]
        stop = threading.Event()

        def trickle() -> None:
            for byte in upgrade_request():
                for loris in lorises:
                    with contextlib.suppress(OSError):
                        loris.send(bytes([byte]))
                if stop.wait(1):
                    return

        trickling = threading.Thread(target=trickle)
        trickling.start()
        try:
            wait_for(lambda: target.process.num_threads() > count // 2)
            assert target.serves_the_honest() < 5
            wait_for(target.is_idle)
        finally:
            stop.set()
            trickling.join(PATIENCE)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "connects", [400, pytest.param(50_000, marks=[pytest.mark.slow, pytest.mark.alone])]
)
def test_connects_and_disconnects_leak_nothing(target: Target, connects: int) -> None:
    request = upgrade_request()
    close = b"\x88\x82\x00\x00\x00\x00\x03\xe8"
    linger = struct.pack("ii", 1, 0)

    def come_and_go(count: int) -> None:
        for number in range(count):
            with target.connect() as sock:
                sock.sendall(request)
                read_head(sock)
                if number % 3 == 0:
                    sock.sendall(close)
                    while sock.recv(65536):
                        pass
                elif number % 3 == 1:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    threads = [threading.Thread(target=come_and_go, args=(connects // 4,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert target.serves_the_honest() < 5
    target.is_as_before()
