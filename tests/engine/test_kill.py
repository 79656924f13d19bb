"""Nothing is lost or repeated, whatever is killed or cut off.

``pytest tests/test_kill.py --kills 500`` for a longer run.
"""

from __future__ import annotations

import random
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from syncchat import Client, ConnectionClosed, Disconnected, Gap
from syncchat.chat.events import Error, Message
from tests.peer import PATIENCE
from tests.processes import SERVER, Script
from tests.proxy import Proxy

CLIENTS = 8


class Talker:
    """A client that says numbered messages all the time, and notes all that it hears."""

    def __init__(self, name: str, url: str, pause: float = 0.01) -> None:
        self.name = name
        self._pause = pause
        self.client = Client(url, nick=name).connect()
        #: What it has said, by the nonces, but for what the server has refused.
        self.said: dict[str | None, str] = {}
        self.refused: set[str | None] = set()
        self.heard: list[Message] = []
        self.gaps: list[Gap] = []
        self.breaks = 0
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._talk, name=f"{name} talks"),
            threading.Thread(target=self._listen, name=f"{name} listens"),
        ]
        for thread in self._threads:
            thread.start()

    def _talk(self) -> None:
        number = 0
        while not self._stop.wait(random.random() * self._pause):
            text = f"{self.name} {number}"
            self.said[self.client.say(text)] = text
            number += 1

    def _listen(self) -> None:
        while True:
            try:
                event = self.client.receive()
            except ConnectionClosed:
                return
            if isinstance(event, Message):
                self.heard.append(event)
            elif isinstance(event, Gap):
                self.gaps.append(event)
            elif isinstance(event, Disconnected):
                self.breaks += 1
            elif isinstance(event, Error) and event.code == "unavailable":
                self.refused.add(event.nonce)

    @property
    def kept(self) -> list[str]:
        """What the server has kept of what it said, when all is acknowledged or refused."""
        return [text for nonce, text in self.said.items() if nonce not in self.refused]

    def be_silent(self) -> None:
        self._stop.set()
        self._threads[0].join()

    def close(self) -> None:
        self.be_silent()
        self.client.close()
        self._threads[1].join()


def started(database: Path, port: int) -> Script:
    server = Script([*SERVER, "--port", str(port), "--engine", f"sqlite:{database}", "--rate", "0"])
    server.wait_for_line("listening on port .*")
    return server


SLOW = [pytest.mark.slow, pytest.mark.timeout(0)]


@pytest.mark.parametrize(
    ("often", "rooms"),
    [(False, 1), pytest.param(True, 1, marks=SLOW), pytest.param(False, 50, marks=SLOW)],
)
def test_every_acknowledged_message_survives_once_and_in_one_order(
    tmp_path: Path, kills: int, *, often: bool, rooms: int
) -> None:
    kills = kills if often else 1
    # In many rooms, whose messages share commits, two people each, who say less.
    people, pause = (CLIENTS, 0.01) if rooms == 1 else (2 * rooms, 0.2)
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    server = started(tmp_path / "chat.db", port)
    talkers: list[Talker] = []
    try:
        with Proxy(port) as proxy:
            url = f"ws://127.0.0.1:{proxy.port}/room"
            talkers += (
                Talker(f"talker{number}", f"{url}{number % rooms}", pause)
                for number in range(people)
            )
            for _ in range(kills):
                end = time.monotonic() + chance.uniform(0.2, 1.2)
                while time.monotonic() < end:
                    time.sleep(chance.uniform(0.0, 0.2))
                    proxy.cut(0.05, chance)
                server.signal(signal.SIGKILL)
                server.__exit__()
                time.sleep(chance.uniform(0.0, 0.3))
                server = started(tmp_path / "chat.db", port)
            for number in range(rooms):
                check(talkers[number::rooms], kills if rooms == 1 else 0, breaks=rooms == 1)
            for talker in talkers:
                talker.close()
    finally:
        for talker in talkers:
            talker.close()
        server.__exit__()


def check(talkers: list[Talker], kills: int, *, breaks: bool = True) -> None:
    """Nothing is lost or repeated, in one order; ``breaks``: everybody had to reconnect."""
    for talker in talkers:
        talker.be_silent()
    for talker in talkers:
        # Every message is acknowledged.
        talker.client.flush(6 * PATIENCE)
    total = sum(len(talker.kept) for talker in talkers)
    deadline = time.monotonic() + 6 * PATIENCE
    first = max(talker.heard[0].offset for talker in talkers)
    while any(talker.heard[-1].offset < total for talker in talkers):
        assert time.monotonic() < deadline, [talker.heard[-1].offset for talker in talkers]
        time.sleep(0.01)
    assert total > 50 * kills
    # The number depends on how fast clients reconnect on this machine.
    if breaks:
        assert all(talker.breaks for talker in talkers)
        assert sum(talker.breaks for talker in talkers) > kills
    for talker in talkers:
        assert not talker.gaps
        # From its join on, each offset once and in order.
        offsets = [message.offset for message in talker.heard]
        assert offsets == list(range(offsets[0], total + 1))
        # All of them received the same messages.
        same = [(m.offset, m.text, m.time, m.nonce) for m in talker.heard if m.offset >= first]
        assert same == [
            (m.offset, m.text, m.time, m.nonce) for m in talkers[0].heard if m.offset >= first
        ]
    # The log has the messages of each sender once and in order.
    whole = min(talkers, key=lambda talker: talker.heard[0].offset).heard
    for talker in talkers:
        mine = [m.text for m in whole if m.text.startswith(f"{talker.name} ")]
        assert mine == talker.kept[len(talker.kept) - len(mine) :]
    assert whole[0].offset == 1
