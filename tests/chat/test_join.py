"""History and live messages meet exactly, however busy the room is."""

from __future__ import annotations

import http.client
import json
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from wsproto.events import TextMessage

from tests.peer import PATIENCE, Peer
from tests.people import Json
from tests.processes import ServerScript
from tests.proxy import Proxy
from tests.redis_server import RedisProcess

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


@dataclass
class Lag:
    """A server that has heard nothing of the last messages in ``ops``: 1, 2 and 3."""

    redis: RedisProcess
    epoch: str
    lagging: ServerScript
    bob: Json

    def follow(self, path: str, offset: int) -> http.client.HTTPResponse:
        """Follow the room there, after an offset."""
        follower = http.client.HTTPConnection("127.0.0.1", self.lagging.port, timeout=PATIENCE)
        headers = {"Last-Event-ID": f"{self.epoch}:{offset}", "Connection": "close"}
        follower.request("GET", f"/ops{path}", headers=headers)
        return follower.getresponse()


@pytest.fixture
def lag() -> Iterator[Lag]:
    with (
        RedisProcess() as redis,
        Proxy(redis.path) as proxy,
        ServerScript("--engine", redis.url) as quick,
        ServerScript("--engine", f"redis://127.0.0.1:{proxy.port}/0") as lagging,
        Json(f"{quick.url}ops?nick=ann") as ann,
    ):
        epoch = ann.event("welcome")["epoch"]
        # Until it notices that its subscription is dead.
        proxy.swallow_answers_to(b"SUBSCRIBE\r\n$14\r\nsyncchat:{ops}")
        with Json(f"{lagging.url}ops?nick=bob") as bob:
            bob.event("welcome")
            for number in (1, 2, 3):
                ann.ask(type="say", text=f"{number}", nonce=f"n{number}")
                ann.find("message")
            yield Lag(redis, epoch, lagging, bob)


def heard(answer: http.client.HTTPResponse, count: int) -> list[str]:
    """The texts of the next messages."""
    texts: list[str] = []
    while len(texts) < count:
        if b'"type":"message"' in (line := answer.readline()):
            texts.append(json.loads(line.removeprefix(b"data: "))["text"])
    return texts


@pytest.mark.slow
@pytest.mark.parametrize("path", ["?format=ndjson", "?format=sse"])
def test_a_follower_that_comes_to_a_server_that_lags_gets_nothing_twice(
    lag: Lag, path: str
) -> None:
    with lag.follow(path, 2) as answer:
        lag.bob.ask(type="say", text="4")
        assert heard(answer, 2) == ["3", "4"]
    # Members miss nothing and get nothing twice, either.
    assert [lag.bob.find("message")["text"] for _ in range(4)] == ["1", "2", "3", "4"]


def test_a_message_that_a_lagging_server_has_not_delivered_is_acknowledged_after_it(
    lag: Lag,
) -> None:
    # As by a client that comes from the other server. Its position moves on with the ack.
    lag.bob.ask(type="say", text="3", nonce="n3")
    events = [lag.bob.event("message", "ack") for _ in range(4)]
    assert [(each["type"], each["offset"]) for each in events] == [
        ("message", 1),
        ("message", 2),
        ("message", 3),
        ("ack", 3),
    ]


def test_a_nick_is_one_member_s_also_when_redis_has_forgotten_who_has_it(lag: Lag) -> None:
    lag.redis.ask("FLUSHALL")
    with Json(f"{lag.lagging.url}ops?nick=BOB") as other:
        assert other.event("welcome")["nick"] != "BOB"
        assert other.find("error")["code"] == "nick_taken"
        other.ask(type="nick", nick="bob")
        assert other.find("error")["code"] == "nick_taken"


@pytest.mark.slow
def test_a_follower_must_wait_for_a_server_that_has_not_heard_of_a_new_log(lag: Lag) -> None:
    lag.redis.ask("FLUSHALL")
    with lag.follow("?format=ndjson", 3) as refused:
        assert refused.status == 503
        assert b"about to begin anew" in refused.read()
    # It disconnects its members when it has heard of it.
    with pytest.raises(ConnectionClosed):
        while True:
            lag.bob.event()
    with lag.follow("?format=ndjson&poll=1", 3) as answer:
        assert b'"complete":false' in answer.read()
