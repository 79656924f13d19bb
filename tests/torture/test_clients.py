"""The clients of the torture test that stay."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from websockets.sync.server import ServerConnection, serve
from websockets.typing import Subprotocol

from tests.peer import PATIENCE
from tests.torture import scripts

with scripts():
    from torture.checker import check
    from torture.clients import Actor
    from torture.history import Acked, Audit, Entered, History, Seen, Sent
    from torture.plan import ClientPlan, Kind, Step
    from torture.proxy import Proxy
    from torture.runner import ACTORS
    from torture.servers import Node, server_command, wait_until

CHANCE = random.Random(0)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """A server with the memory engine, behind its proxy."""
    node = Node(0, server_command("memory:", None), tmp_path, {})
    try:
        node.start()
        yield node
    finally:
        node.close()


@dataclass
class Stand:
    """A node that is only a proxy."""

    proxy: Proxy

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.proxy.port}"


@contextmanager
def standing(serve_one: Callable[[ServerConnection], None]) -> Iterator[Stand]:
    """A server of JSON events that serves each connection with ``serve_one``."""
    with serve(
        serve_one, "127.0.0.1", 0, subprotocols=[Subprotocol("syncchat.v1")], compression=None
    ) as server:
        serving = threading.Thread(target=server.serve_forever, name="serving")
        serving.start()
        with Proxy(server.socket.getsockname()[1]) as proxy:
            yield Stand(proxy)
        server.shutdown()
        serving.join()


def actor(kind: Kind, node: Node | Stand, history: History, what: str = "move") -> Actor:
    """A client of this kind that takes no step in the first minute."""
    plan = ClientPlan(f"{kind.value}1", kind, 0, 1.0)
    return ACTORS[kind](plan, iter([Step(60.0, what, "", "")]), [node], history)  # type: ignore[list-item]


def test_a_pipe_client_is_in_the_room_before_the_first_fault(node: Node) -> None:
    history = History(None)
    pipe = actor(Kind.PIPE, node, history)
    try:
        pipe.start()
        assert any(isinstance(each, Entered) for each in history.records())
    finally:
        pipe.be_silent()
        pipe.close()
    assert not any(isinstance(each, Audit) for each in history.records())


def test_a_pipe_client_that_ends_by_itself_is_a_violation(node: Node) -> None:
    history = History(None)
    node.kill()
    pipe = actor(Kind.PIPE, node, history)
    try:
        pipe.start()
        assert wait_until(lambda: any(isinstance(e, Audit) for e in history.records()), PATIENCE)
    finally:
        pipe.be_silent()
        pipe.close()
    assert {each.rule for each in check(history.records())} == {8}


def test_a_client_of_a_foreign_library_drops_what_it_has_seen() -> None:
    """As the protocol says: on Redis, another server may be behind the one before."""
    conversations = [
        [welcome(0), message(1), message(2)],
        [welcome(1), {"type": "history", "messages": [], "complete": True}, message(2), message(3)],
    ]

    def serve_one(connection: ServerConnection) -> None:
        last = len(conversations) == 1
        for event in conversations.pop(0) if conversations else []:
            connection.send(json.dumps(event))
        if last:
            connection.recv()

    history = History(None)
    with standing(serve_one) as stand:
        client = actor(Kind.JSON, stand, history)
        client.start()
        assert wait_until(lambda: offsets(history)[-1:] == [3], PATIENCE)
        client.be_silent()
        client.close()
    assert offsets(history) == [1, 2, 3]
    assert check(history.records()) == []


def test_a_pipe_client_is_answered_by_an_ack_of_what_lies_behind_a_gap() -> None:
    limits = {"message": 65536, "nick": 32, "rate": 0, "burst": 1}
    rest = {"nick": "pipe1", "members": [], "server": "s", "limits": limits, "format": "{text}"}

    def serve_one(connection: ServerConnection) -> None:
        connection.send(json.dumps({**welcome(0), **rest}))
        for text in connection:
            event = json.loads(text)
            if event["type"] == "say":
                ack = {"type": "ack", "nonce": event["nonce"], "offset": 1, "epoch": "f"}
                connection.send(json.dumps(ack))

    history = History(None)
    with standing(serve_one) as stand:
        plan = ClientPlan("pipe1", Kind.PIPE, 0, 1.0)
        says = iter([Step(0.0, "say", "pipe1.1", ""), Step(60.0, "say", "", "")])
        client = ACTORS[Kind.PIPE](plan, says, [stand], history)  # type: ignore[list-item]
        client.start()
        assert wait_until(
            lambda: any(isinstance(each, Sent) for each in history.records()), PATIENCE
        )
        client.be_silent()
        assert client.wait_acknowledged(PATIENCE)
        client.close()


def welcome(offset: int) -> dict[str, object]:
    return {"type": "welcome", "room": "arena", "epoch": "e", "offset": offset}


def message(offset: int) -> dict[str, object]:
    return {"type": "message", "offset": offset, "time": 1.5, "nick": "n", "text": f"n1.{offset}"}


def offsets(history: History) -> list[int]:
    return [each.offset for each in history.records() if isinstance(each, Seen)]


@pytest.mark.slow
def test_clients_over_http_say_and_see_everything_once_through_breaks(node: Node) -> None:
    history = History(None)
    says = [
        Step(0.01, "act" if number % 5 else "say", f"post1.{number}", "") for number in range(200)
    ]
    publisher = ACTORS[Kind.POST](
        ClientPlan("post1", Kind.POST, 0, 0.01, repeats=True), iter(says), [node], history
    )
    followers = [actor(kind, node, history, "say") for kind in (Kind.EVENT_SOURCE, Kind.LINES)]

    def seen(name: str) -> list[int]:
        records = history.records()
        return [each.offset for each in records if isinstance(each, Seen) and each.client == name]

    for each in followers:
        each.start()
    wait_until(lambda: sum(isinstance(e, Entered) for e in history.records()) == 2, PATIENCE)
    publisher.start()
    for count in (50, 100, 150):
        wait_until(lambda count=count: len(seen("lines1")) >= count, PATIENCE)  # type: ignore[misc]
        node.proxy.reset(1.0, CHANCE)
    try:
        for each in followers:
            assert wait_until(lambda each=each: len(seen(each.name)) >= 200, PATIENCE)  # type: ignore[misc]
            assert seen(each.name) == list(range(1, 201))
    finally:
        for each in (publisher, *followers):
            each.be_silent()
            each.wait_acknowledged(PATIENCE)
            each.close()
    acks = [each for each in history.records() if isinstance(each, Acked)]
    # Also those that were repeated, by a repeater.
    assert len(acks) > 200
    assert {each.offset for each in acks} == set(range(1, 201))
    assert check(history.records()) == []
