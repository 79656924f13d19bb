"""A client of ours that watches rooms: unread counts, switching without a loss, reconnects."""

from __future__ import annotations

import random
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from syncchat import ChatServer, Client
from syncchat.chat.events import Activity, Message, Welcome
from syncchat.client import Gap, RoomNews
from tests.engine.test_kill import started
from tests.peer import PATIENCE, wait_for
from tests.people import cut, until, url_of


def news(client: Client) -> dict[str, RoomNews]:
    return {each.room: each for each in client.rooms_watched}


def reached(room: RoomNews) -> int:
    """The offset up to which the client has seen a room."""
    assert room.place is not None
    return int(room.place.partition(":")[2])


def test_watched_rooms_have_unread_counts_over_a_reconnect() -> None:
    with (
        ChatServer(port=0) as chat,
        Client(url_of(chat), nick="ann") as client,
    ):
        client.watch("#Ops", "dev")
        wait_for(lambda: news(client)["dev"].place is not None)
        chat.say("one", "ops")
        chat.say("ann: two", "ops")
        wait_for(lambda: news(client)["ops"].unread == 2)
        wait_for(lambda: news(client)["ops"].mention is not None)
        mention = news(client)["ops"].mention
        assert mention is not None
        assert mention.text == "ann: two"
        cut(client)
        chat.say("three", "ops")
        wait_for(lambda: news(client)["ops"].unread == 3)
        # A watched room continues where it was last seen.
        client.join("ops")
        found: list[str] = []
        while len(found) < 3:
            event = client.receive(PATIENCE)
            assert not isinstance(event, Gap)
            if isinstance(event, Message):
                found.append(event.text)
        assert found == ["one", "ann: two", "three"]
        assert news(client)["ops"].unread == 0
        client.unwatch("dev")
        with pytest.raises(ValueError, match="at most 200"):
            client.watch(*(f"room-{number}" for number in range(200)))


def test_switching_between_rooms_loses_nothing_under_traffic() -> None:
    rooms = ("ops", "dev", "lobby")
    stop = threading.Event()
    with ChatServer(port=0, notices=False) as chat:

        def talk() -> None:
            number = 0
            while not stop.wait(0.001):
                chat.say(str(number), rooms[number % 3])
                number += 1

        talker = threading.Thread(target=talk, name="talker")
        with Client(url_of(chat), nick="ann") as client:
            client.watch(*rooms)
            while {each.place for each in client.rooms_watched} & {None}:
                client.receive(PATIENCE)
            seen = {
                name: int((each.place or "").split(":")[1]) for name, each in news(client).items()
            }
            talker.start()
            try:
                here = "lobby"
                for turn in range(30):
                    client.join(rooms[turn % 3])
                    arrived = False
                    while not arrived:
                        event = client.receive(PATIENCE)
                        assert not isinstance(event, Gap)
                        if isinstance(event, Welcome):
                            here = event.room
                            arrived = here == rooms[turn % 3]
                        elif isinstance(event, Message):
                            seen[here] += 1
                            assert event.offset == seen[here]
            finally:
                stop.set()
                talker.join()
            # What is unread is exact in the end.
            ends = {name: chat.history(name, 1)[-1].offset for name in rooms}
            while True:
                known = {name: reached(each) + each.unread for name, each in news(client).items()}
                if known == ends:
                    break
                event = client.receive(PATIENCE)
                assert isinstance(event, Message | Activity)


@pytest.mark.parametrize(
    "often", [False, pytest.param(True, marks=[pytest.mark.slow, pytest.mark.timeout(0)])]
)
def test_unread_counts_are_exact_over_kills_of_the_server(
    tmp_path: Path, kills: int, *, often: bool
) -> None:
    """What is stored is counted, and nothing else."""
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"ws://127.0.0.1:{port}"
    servers = [started(tmp_path / "chat.db", port)]

    def restart() -> None:
        servers[-1].signal(signal.SIGKILL)
        servers[-1].__exit__()
        servers.append(started(tmp_path / "chat.db", port))

    try:
        with Client(f"{url}/", nick="ann") as ann, Client(f"{url}/ops", nick="bob") as bob:
            ann.watch("ops")
            wait_for(lambda: news(ann)["ops"].place is not None)
            before = reached(news(ann)["ops"])

            def talk() -> None:
                number = 0
                while not stop.wait(0.005):
                    bob.say(f"message {number}")
                    number += 1

            talker = threading.Thread(target=talk, name="talker")
            talker.start()
            try:
                for _ in range(kills if often else 1):
                    time.sleep(random.random() * 0.5)
                    restart()
                    wait_for(lambda: ann.connected and bob.connected)
            finally:
                stop.set()
                talker.join()
            bob.flush(PATIENCE)
            with Client(f"{url}/ops?history=1") as last:
                (end,) = (e.offset for e in until(last, Message) if isinstance(e, Message))
            wait_for(lambda: before + news(ann)["ops"].unread == end)
            ann.join("ops")
            offsets: list[int] = []
            while len(offsets) < end - before:
                event = ann.receive(PATIENCE)
                assert not isinstance(event, Gap)
                if isinstance(event, Message):
                    offsets.append(event.offset)
            assert offsets == list(range(before + 1, end + 1))
    finally:
        servers[-1].__exit__()
