"""One thread reads for all that wait: messages that need no thread of their own."""

from __future__ import annotations

import select
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any

import pytest
from wsproto.events import CloseConnection, Ping, Pong, TextMessage

from syncchat.closecodes import NORMAL, TRY_AGAIN_LATER
from syncchat.errors import ConnectionClosed
from syncchat.net import Deadline, Later, Server, WebSocket, serve
from tests.peer import PATIENCE, Peer, wait_for

pytestmark = pytest.mark.skipif(not hasattr(select, "epoll"), reason="only with epoll")


class Hub:
    """A server whose clients' messages are taken, except those that begin with ``/``.

    What is taken goes to everybody after the messages of all clients are read; the rest
    is answered on the client's own thread.
    """

    def __init__(self, **limits: Any) -> None:
        self.members: list[WebSocket] = []
        self.blocked, self.unblock = threading.Event(), threading.Event()
        self.taken: list[str] = []
        #: The threads on which messages were taken, and those that answered.
        self.takers: set[str] = set()
        self.answered: list[tuple[str, str]] = []
        self.server: Server = serve(self._handle, "127.0.0.1", 0, ping_interval=None, **limits)

    def has_served(self, count: int) -> bool:
        """Whether so many connections have been served, those that have ended included."""
        return len(self.members) == count

    def _handle(self, websocket: WebSocket) -> None:
        self.members.append(websocket)
        while True:
            for message in websocket.recv_many(take=self._take):
                assert isinstance(message, str)
                self.answered.append((message, threading.current_thread().name))
                if message == "/fail":
                    raise RuntimeError("asked to")
                websocket.send(f"own: {message}")

    def _take(self, messages: Sequence[str | bytes], later: Later) -> int:
        self.takers.add(threading.current_thread().name)
        later.add(self._echo)
        count = 0
        for message in messages:
            assert isinstance(message, str)
            if message.startswith("/"):
                break
            if message == "raise":
                raise RuntimeError("asked to")
            if message == "block":
                self.blocked.set()
                self.unblock.wait(PATIENCE)
            self.taken.append(message)
            count += 1
        return count

    def _echo(self) -> None:
        taken, self.taken = self.taken, []
        for member in self.members:
            with suppress(ConnectionClosed):
                for text in taken:
                    member.send(text)


@contextmanager
def running(clients: int, **limits: Any) -> Iterator[tuple[Hub, list[Peer]]]:
    hub = Hub(**limits)
    with hub.server, ExitStack() as stack:
        peers = [stack.enter_context(Peer.client(hub.server.port)) for _ in range(clients)]
        places = [peer.sock.getsockname() for peer in peers]
        wait_for(lambda: len(hub.members) == clients)
        # The handlers may have begun in another order.
        hub.members.sort(key=lambda member: places.index(member.remote_address))
        yield hub, peers


def say(peer: Peer, *texts: str) -> None:
    peer.send(*(TextMessage(data=text) for text in texts))


def heard(peer: Peer) -> str:
    return peer.expect(TextMessage).data


def test_one_thread_takes_the_messages_of_all_clients() -> None:
    with running(5) as (hub, peers):
        for number, peer in enumerate(peers):
            say(peer, f"{number}")
            for each in peers:
                assert heard(each) == f"{number}"
        assert len(hub.takers) == 1
        assert hub.answered == []


def test_a_message_that_is_not_taken_is_received_by_its_own_thread_in_order() -> None:
    with running(3) as (hub, peers):
        host, port = peers[1].sock.getsockname()
        say(peers[1], "first", "/own", "second")
        assert heard(peers[1]) == "first"
        assert heard(peers[1]) == "own: /own"
        # What follows in the same packet is received together with it.
        assert heard(peers[1]) == "own: second"
        assert {name for _, name in hub.answered} == {f"syncchat {host}:{port}"}
        say(peers[1], "third")
        assert [heard(peer) for peer in (peers[0], peers[0])] == ["first", "third"]


def test_each_client_in_turn_may_leave_and_the_others_are_still_served() -> None:
    with running(6) as (_, peers):
        while len(peers) > 1:
            # Whichever leaves.
            peers.pop(0).close()
            say(peers[-1], f"{len(peers)} left")
            for peer in peers:
                assert heard(peer) == f"{len(peers)} left"
        peers[0].send(CloseConnection(code=NORMAL))
        assert peers[0].expect(CloseConnection).code == NORMAL


def test_each_client_in_turn_may_need_its_thread() -> None:
    with running(4) as (_, peers):
        for round_ in range(3):
            for peer in peers:
                say(peer, f"/{round_}")
                assert heard(peer) == f"own: /{round_}"
            say(peers[0], "all")
            assert [heard(peer) for peer in peers] == ["all"] * 4


def test_a_frame_that_arrives_byte_by_byte_is_taken_when_it_is_complete() -> None:
    with running(2) as (hub, peers):
        for byte in peers[0].protocol.send(TextMessage(data="slow")):
            peers[0].send_bytes(bytes([byte]))
        assert heard(peers[1]) == "slow"
        assert hub.answered == []


def test_pings_are_answered_while_the_thread_waits() -> None:
    with running(2) as (_, peers):
        peers[0].send(Ping(payload=b"are you there"))
        assert peers[0].expect(Pong).payload == b"are you there"
        say(peers[0], "yes")
        assert heard(peers[1]) == "yes"


def test_a_message_and_a_close_in_one_packet_reach_the_own_thread_together() -> None:
    with running(2) as (hub, peers):
        peers[0].send(TextMessage(data="last"), CloseConnection(code=NORMAL))
        assert heard(peers[0]) == "own: last"
        assert peers[0].expect(CloseConnection).code == NORMAL
        assert [text for text, _ in hub.answered] == ["last"]


@pytest.mark.parametrize("closed", [0, 1], ids=["the first", "the second"])
def test_another_thread_may_close_a_connection_that_waits(closed: int) -> None:
    with running(2) as (hub, peers):
        say(peers[1 - closed], "hello")
        assert heard(peers[closed]) == "hello"
        # The client does not answer the Close.
        hub.members[closed].close(timeout=0.05)
        assert peers[closed].expect(CloseConnection).code == NORMAL
        wait_for(lambda: hub.server.connections == 1)
        assert heard(peers[1 - closed]) == "hello"
        say(peers[1 - closed], "still here")
        assert heard(peers[1 - closed]) == "still here"


def test_a_connection_that_is_aborted_at_its_deadline_ends_its_wait() -> None:
    with running(2) as (hub, peers):
        hub.members[0].begin_close(TRY_AGAIN_LATER, "later", Deadline.after(0.05))
        assert peers[0].expect(CloseConnection).code == TRY_AGAIN_LATER
        wait_for(lambda: hub.server.connections == 1)


@pytest.mark.parametrize("text", ["raise", "/fail"])
def test_a_failure_ends_the_connection_of_its_client_only(
    text: str, caplog: pytest.LogCaptureFixture
) -> None:
    with running(3) as (_, peers):
        say(peers[0], text)
        assert peers[0].expect(CloseConnection).code == 1011
        say(peers[1], "alive")
        assert heard(peers[2]) == "alive"
    assert "asked to" in caplog.text


def test_a_stop_ends_threads_that_wait() -> None:
    with running(20) as (hub, peers):
        say(peers[0], "x")
        assert heard(peers[19]) == "x"
        hub.server.stop(0.2)
        assert hub.server.connections == 0


def test_the_rate_limit_holds_for_messages_that_are_taken() -> None:
    with running(1, rate=1000.0, burst=1) as (_, (peer,)):
        say(peer, *(f"{number}" for number in range(50)))
        texts = [heard(peer).removeprefix("own: ") for _ in range(50)]
        assert texts == [f"{number}" for number in range(50)]


@pytest.mark.slow
def test_a_stop_ends_the_other_threads_even_if_one_that_takes_blocks() -> None:
    with running(5) as (hub, peers):
        say(peers[0], "block")
        assert hub.blocked.wait(PATIENCE)
        try:
            hub.server.stop(0.2)
            # The client whose message the blocked reader takes is left.
            assert hub.server.connections <= 1
        finally:
            hub.unblock.set()
        wait_for(lambda: hub.server.connections == 0)


def test_a_connection_may_be_closed_by_another_thread_at_any_time() -> None:
    with running(1) as (hub, peers):
        for count in range(2, 102):
            with Peer.client(hub.server.port):
                wait_for(partial(hub.has_served, count))
                hub.members[-1].close(timeout=0)
        say(peers[0], "still here")
        assert heard(peers[0]) == "still here"
        wait_for(lambda: hub.server.connections == 1)
