"""History and live messages meet exactly, however busy the room is."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from wsproto.events import TextMessage

from tests.peer import Peer
from tests.processes import ServerScript

JOINERS, TALKERS = 8, 4
SUBPROTOCOL = "Sec-WebSocket-Protocol: syncchat.v1\r\n"


#: Messages in a piece of a long history.
PIECE = 1000


class Talker(threading.Thread):
    """Keeps several messages in flight all the time."""

    def __init__(self, port: int, stop: threading.Event) -> None:
        super().__init__(name="talker")
        self.port = port
        self.stop = stop
        self.said = 0

    def run(self) -> None:
        with Peer.client(self.port, "/busy") as peer:
            peer.send(*[TextMessage(data="talk")] * 8)
            while not self.stop.is_set():
                text = str(peer.expect(TextMessage).data)
                if text.startswith(f"127.0.0.1:{peer.sock.getsockname()[1]}: "):
                    peer.send(TextMessage(data="talk"))
                    self.said += 1


@contextmanager
def busy(server: ServerScript) -> Iterator[list[Talker]]:
    """A room with many senders at once."""
    stop = threading.Event()
    talkers = [Talker(server.port, stop) for _ in range(TALKERS)]
    for talker in talkers:
        talker.start()
    try:
        yield talkers
    finally:
        stop.set()
        for talker in talkers:
            talker.join()


def events(peer: Peer) -> Iterator[dict[str, Any]]:
    text = ""
    while True:
        # A long message arrives in pieces.
        piece = peer.expect(TextMessage)
        text += str(piece.data)
        if piece.message_finished:
            yield json.loads(text)
            text = ""


def join_once(port: int, place: tuple[str, int] | None) -> tuple[str, int]:
    """Join with history or after a position; return the last offset received."""
    past = f"history={random.randrange(1, 60)}" if place is None else "after={}:{}".format(*place)
    with Peer.client(port, f"/busy?{past}", SUBPROTOCOL) as peer:
        told = events(peer)
        welcome = next(told)
        assert welcome["type"] == "welcome"
        history = next(told)
        assert history["type"] == "history"
        assert history["complete"]
        offsets = [message["offset"] for message in history["messages"]]
        if place is not None:
            assert offsets[:1] in ([], [place[1] + 1])
        if len(offsets) < PIECE:
            assert not offsets or offsets[-1] == welcome["offset"]
        offsets = offsets or [welcome["offset"]]
        live = random.randrange(1, 20)
        while live:
            event = next(told)
            if event["type"] == "history":
                # The next piece of a long history.
                assert event["complete"]
                offsets += [message["offset"] for message in event["messages"]]
            elif event["type"] != "names":
                assert event["type"] == "message"
                offsets.append(event["offset"])
                live -= 1
        assert offsets == list(range(offsets[0], offsets[0] + len(offsets)))
        return welcome["epoch"], offsets[-1]


@pytest.mark.timeout(180)
@pytest.mark.parametrize("engine", ["memory:", "sqlite:"])
@pytest.mark.parametrize(
    "joins", [40, pytest.param(1000, marks=[pytest.mark.slow, pytest.mark.alone])]
)
def test_history_and_live_messages_meet_exactly(engine: str, joins: int, tmp_path: Path) -> None:
    if engine == "sqlite:":
        engine += str(tmp_path / "chat.db")
    flags = ["--engine", engine, "--keep", "100000", "--rate", "0", "--greeting", ""]
    failures: list[BaseException] = []

    def join_many(port: int) -> None:
        place = None
        try:
            for _ in range(joins // JOINERS):
                place = join_once(port, None if random.random() < 0.5 else place)
        except BaseException as exc:
            failures.append(exc)

    with ServerScript(*flags, "--no-notices") as server:
        with busy(server) as talkers:
            joiners = [
                threading.Thread(target=join_many, args=(server.port,), name="joiner")
                for _ in range(JOINERS)
            ]
            for joiner in joiners:
                joiner.start()
            for joiner in joiners:
                joiner.join()
            said = sum(talker.said for talker in talkers)
        if failures:
            raise failures[0]
        # The room was busy all the time.
        assert said > joins
