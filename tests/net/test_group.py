"""The fan-out: one order, no gap, no repeat, and no member waits for a slow one."""

from __future__ import annotations

import queue
import random
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import pytest
from wsproto.events import BytesMessage, CloseConnection, TextMessage
from wsproto.frame_protocol import FrameProtocol

from syncchat.errors import ConnectionClosed
from syncchat.net import Fanout, Group, Server, WebSocket, connect, encode_frame, serve
from tests.peer import PATIENCE, InThread, Peer, client_side, wait_for


class Hub:
    """A server that gives its connections to the test."""

    def __init__(self, server: Server, made: queue.Queue[WebSocket]) -> None:
        self.server = server
        self._made = made

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.server.port}/"

    def join(self, stack: ExitStack) -> tuple[WebSocket, Peer]:
        """A new client, and the server's end of it."""
        peer = stack.enter_context(Peer.client(self.server.port))
        return self._made.get(timeout=PATIENCE), peer


@contextmanager
def hub(**settings: Any) -> Iterator[Hub]:
    made: queue.Queue[WebSocket] = queue.Queue()
    release = threading.Event()

    def handler(websocket: WebSocket) -> None:
        made.put(websocket)
        release.wait()

    with serve(handler, **settings) as server:
        try:
            yield Hub(server, made)
        finally:
            release.set()


def keeping_up(seen: list[list[bytes]], number: int) -> bool:
    """Whether every reader has all but the last few of ``number`` messages."""
    return min(map(len, seen)) > number - 5


def has_passed(counter: list[int], goal: int) -> bool:
    return counter[0] > goal


def test_a_group_knows_its_members() -> None:
    group = Group()
    with hub() as it, ExitStack() as stack:
        first, _ = it.join(stack)
        second, _ = it.join(stack)
        group.add(first)
        group.add(second)
        group.add(first)
        assert len(group) == 2
        assert list(group) == [first, second]
        assert first in group
        group.discard(first)
        group.discard(first)
        assert list(group) == [second]
        assert repr(group) == "<Group of 1>"


def test_every_member_gets_text_and_binary() -> None:
    group = Group()
    with hub() as it, ExitStack() as stack:
        peers = []
        for _ in range(5):
            websocket, peer = it.join(stack)
            group.add(websocket)
            peers.append(peer)
        group.send("hällo")
        group.send(b"\x00\x01")
        group.send_many(["a", b"b", ""])
        group.send_many([])
        for peer in peers:
            assert peer.expect(TextMessage).data == "hällo"
            assert peer.expect(BytesMessage).data == b"\x00\x01"
            assert peer.expect(TextMessage).data == "a"
            assert peer.expect(BytesMessage).data == b"b"
            assert peer.expect(TextMessage).data == ""


def test_an_excluded_member_gets_the_other_messages() -> None:
    group = Group()
    with hub() as it, ExitStack() as stack:
        (first, first_peer), (second, second_peer) = it.join(stack), it.join(stack)
        group.add(first)
        group.add(second)
        group.send("for second", exclude=[first])
        group.send("for first", exclude=(member for member in [second]))
        group.send("for both")
        assert [first_peer.expect(TextMessage).data for _ in range(2)] == ["for first", "for both"]
        assert [second_peer.expect(TextMessage).data for _ in range(2)] == [
            "for second",
            "for both",
        ]


def test_a_message_to_one_member_keeps_its_place_in_the_order() -> None:
    group = Group()
    with hub() as it, ExitStack() as stack:
        (first, first_peer), (second, second_peer) = it.join(stack), it.join(stack)
        group.add(first)
        group.add(second)
        busy = threading.Event()

        def publish() -> None:
            while not busy.is_set():
                group.send("noise")

        noise = threading.Thread(target=publish)
        noise.start()
        for number in range(100):
            group.send(f"all {number}")
            group.send_to(first, f"one {number}")
        group.drain()
        busy.set()
        noise.join(PATIENCE)
        group.send("end")
        group.send_to(first, "end of one")
        heard = []
        while (text := first_peer.expect(TextMessage).data) != "end of one":
            heard.append(text)
        expected = [f"{what} {n}" for n in range(100) for what in ("all", "one")]
        assert [text for text in heard if text not in ("noise", "end")] == expected
        others = []
        while (text := second_peer.expect(TextMessage).data) != "end":
            others.append(text)
        assert [text for text in others if text != "noise"] == [f"all {n}" for n in range(100)]
        outsider, outsider_peer = it.join(stack)
        group.send_to(outsider, "nobody there")
        outsider.send("only this")
        assert outsider_peer.expect(TextMessage).data == "only this"


def test_exclusions_hold_message_by_message_within_a_batch() -> None:
    group = Group()
    with hub() as it, ExitStack() as stack:
        members = [it.join(stack) for _ in range(4)]
        for websocket, _ in members:
            group.add(websocket)

        def publish(number: int) -> None:
            for i in range(200):
                group.send(f"{number} {i}", exclude=[members[number][0]])

        threads = [threading.Thread(target=publish, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for number, (_, peer) in enumerate(members):
            got = [peer.expect(TextMessage).data.split() for _ in range(3 * 200)]
            for other in range(4):
                expected = [] if other == number else [str(i) for i in range(200)]
                assert [i for n, i in got if n == str(other)] == expected
        for thread in threads:
            thread.join(PATIENCE)


def test_an_invalid_message_is_refused_before_anything_is_sent() -> None:
    group = Group()
    with hub() as it, ExitStack() as stack:
        websocket, peer = it.join(stack)
        group.add(websocket)
        with pytest.raises(UnicodeEncodeError):
            group.send_many(["fine", "\udc80"])
        with pytest.raises(TypeError):
            group.send(None)  # type: ignore[arg-type]
        group.send("next")
        assert peer.expect(TextMessage).data == "next"


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536])
@pytest.mark.parametrize("binary", [False, True])
def test_a_frame_equals_that_of_wsproto(size: int, *, binary: bool) -> None:
    payload = b"x" * size
    protocol = FrameProtocol(client=False, extensions=[])
    expected = protocol.send_data(payload if binary else payload.decode())
    assert encode_frame(payload, binary=binary) == expected


def test_a_fanout_writes_to_its_members_and_tells_which_are_closed() -> None:
    fanout: Fanout[WebSocket] = Fanout()
    with hub() as it, ExitStack() as stack:
        (first, first_peer), (second, second_peer) = it.join(stack), it.join(stack)
        third, third_peer = it.join(stack)
        for websocket in (first, second, third, third):
            fanout.add(websocket)
        one, two, own = (encode_frame(text) for text in (b"one", b"two", b"own"))
        assert fanout.write([one, two], {second: [own]}) == []
        assert fanout.write([]) == []
        third.abort()
        assert fanout.write([two]) == [third]
        fanout.discard(third)
        assert fanout.members == (first, second)
        fanout.discard(first)
        fanout.discard(first)
        fanout.write([one])
        assert (len(fanout), first in fanout, second in fanout) == (1, False, True)
        assert [first_peer.expect(TextMessage).data for _ in range(3)] == ["one", "two", "two"]
        assert [second_peer.expect(TextMessage).data for _ in range(3)] == ["own", "two", "one"]
        assert first.messages_out == 3
        third_peer.close()


def test_a_client_connection_cannot_be_a_member() -> None:
    with client_side() as (websocket, _), pytest.raises(ValueError, match="client"):
        Group().add(websocket)


def test_a_large_message_arrives_whole() -> None:
    group = Group()
    with hub() as it, ExitStack() as stack:
        websocket, peer = it.join(stack)
        group.add(websocket)
        text = "0123456789" * 300_000
        group.send(text)
        received = ""
        while not (event := peer.expect(TextMessage)).message_finished:
            received += event.data
        assert received + event.data == text


def test_closed_members_are_removed() -> None:
    group = Group()
    with hub() as it, ExitStack() as stack:
        websocket, peer = it.join(stack)
        staying, staying_peer = it.join(stack)
        group.add(websocket)
        group.add(staying)
        websocket.abort()
        group.send("hello")
        assert list(group) == [staying]
        assert staying_peer.expect(TextMessage).data == "hello"
        peer.expect_end()


def test_what_several_threads_send_is_counted_exactly() -> None:
    threads, each, frame = 4, 50_000, encode_frame(b"x")
    begin = threading.Barrier(threads)

    with hub() as it, ExitStack() as stack:
        websocket, _ = it.join(stack)

        def send_all() -> None:
            begin.wait(PATIENCE)
            # All of it fits into the backlog.
            for _ in range(each):
                websocket.write_frames(frame, 1)

        for sender in [InThread(send_all) for _ in range(threads)]:
            sender.result()
        assert websocket.messages_out == threads * each


def test_no_frame_follows_a_close() -> None:
    group = Group()
    with hub() as it, ExitStack() as stack:
        websocket, peer = it.join(stack)
        group.add(websocket)
        stop = threading.Event()

        def publish() -> None:
            while not stop.is_set():
                group.send("on and on")

        publisher = threading.Thread(target=publish)
        publisher.start()
        peer.expect(TextMessage)
        closing = threading.Thread(target=websocket.close)
        closing.start()
        while not isinstance(peer.next(), CloseConnection):
            pass
        peer.send(CloseConnection(code=1000))
        assert peer.expect_end() == b""
        peer.close()
        closing.join(PATIENCE)
        stop.set()
        publisher.join(PATIENCE)


def test_a_member_that_does_not_read_is_closed_and_the_others_miss_nothing() -> None:
    group = Group()
    slow_ones: list[WebSocket] = []
    with ExitStack() as stack:
        it = stack.enter_context(hub(max_backlog=200_000, on_slow=slow_ones.append))
        stalled, stalled_peer = it.join(stack)
        stalled_peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        others = [it.join(stack) for _ in range(3)]
        group.add(stalled)
        for websocket, _ in others:
            group.add(websocket)
        messages = [bytes([i % 256]) * 20_000 for i in range(1000)]
        seen: list[list[bytes]] = [[], [], []]

        def read(number: int) -> None:
            peer = others[number][1]
            data = b""
            while len(seen[number]) < len(messages):
                event = peer.expect(BytesMessage)
                data += event.data
                if event.message_finished:
                    seen[number].append(data)
                    data = b""

        readers = [threading.Thread(target=read, args=(n,)) for n in range(3)]
        for reader in readers:
            reader.start()
        for number, message in enumerate(messages):
            group.send(message)
            # Almost as fast as the members that read.
            wait_for(partial(keeping_up, seen, number))
        for reader in readers:
            reader.join(PATIENCE)
        assert seen == [messages] * 3
        assert stalled not in group
        assert slow_ones == [stalled]
        assert it.server.stats().slow_consumers == 1
        while not isinstance(event := stalled_peer.next(), CloseConnection):
            assert isinstance(event, BytesMessage)
        assert event.code == 1013


def test_a_greeting_that_does_not_fit_removes_the_slow_member() -> None:
    group = Group()
    # As a program would: remove the slow member.
    with hub(max_backlog=50_000, on_slow=group.discard) as it, ExitStack() as stack:
        slow, _ = it.join(stack)
        other, other_peer = it.join(stack)
        group.add(other, "welcome")
        assert other_peer.expect(TextMessage).data == "welcome"
        with pytest.raises(ConnectionClosed):
            while True:
                slow.send(bytes(50_000))
        stalled, _ = it.join(stack)
        while not stalled.backlog_size:
            stalled.send(bytes(40_000))
        with pytest.raises(ConnectionClosed):
            group.add(stalled, "x" * 50_000)
        assert list(group) == [other]
        group.send("still going")
        assert other_peer.expect(TextMessage).data == "still going"


def test_an_exception_in_on_slow_is_logged_only(caplog: pytest.LogCaptureFixture) -> None:
    def on_slow(websocket: WebSocket) -> None:
        raise LookupError("on_slow's own")

    group = Group()
    with hub(max_backlog=50_000, on_slow=on_slow) as it, ExitStack() as stack:
        stalled, stalled_peer = it.join(stack)
        reading, reading_peer = it.join(stack)
        group.add(stalled)
        group.add(reading)
        while it.server.stats().slow_consumers == 0:
            group.send(bytes(20_000))
            assert reading_peer.expect(BytesMessage)
        while not isinstance(event := stalled_peer.next(), CloseConnection):
            pass
        assert event.code == 1013
    assert "on_slow's own" in caplog.text


def test_a_new_member_gets_every_later_and_no_earlier_message() -> None:
    group = Group()
    with hub() as it, ExitStack() as stack:
        members = [it.join(stack) for _ in range(30)]
        sent = [0]
        began = [0]
        stop = threading.Event()

        def publish() -> None:
            while not stop.is_set():
                began[0] += 1
                group.send(str(began[0]))
                sent[0] = began[0]

        publisher = threading.Thread(target=publish)
        publisher.start()
        bounds = []
        for websocket, _ in members:
            before = sent[0]
            group.add(websocket)
            bounds.append((before, began[0] + 1))
            wait_for(partial(has_passed, sent, began[0] + 20))
        stop.set()
        publisher.join(PATIENCE)
        last = sent[0]
        for (before, after), (_, peer) in zip(bounds, members, strict=True):
            first = int(peer.expect(TextMessage).data)
            assert before < first <= after
            got = [int(peer.expect(TextMessage).data) for _ in range(last - first)]
            assert got == list(range(first + 1, last + 1))


@pytest.mark.slow
def test_a_client_that_has_its_greeting_misses_no_message(full: bool) -> None:
    """Also if a message is sent before add() has returned: it was lost once in 100 times."""
    group = Group()

    def handler(websocket: WebSocket) -> None:
        group.add(websocket, "greeting")
        for message in websocket:
            group.send(message)

    with serve(handler) as server:
        url = f"ws://127.0.0.1:{server.port}/"
        for number in range(500 if full else 150):
            with connect(url) as ann, connect(url) as bob:
                assert ann.recv(PATIENCE) == bob.recv(PATIENCE) == "greeting"
                ann.send(str(number))
                assert ann.recv(PATIENCE) == bob.recv(PATIENCE) == str(number)


def test_stress_many_threads_join_leave_and_send_in_one_order() -> None:
    """Order, no gap, no repeat: each member receives a run of the same sequence."""
    group = Group()
    witness_seen: list[str] = []
    total = 6 * 400

    def handler(websocket: WebSocket) -> None:
        group.add(websocket)
        try:
            for message in websocket:
                group.send(message)
        finally:
            group.discard(websocket)

    with serve(handler) as server:
        url = f"ws://127.0.0.1:{server.port}/"
        heard: list[list[str]] = []
        done = threading.Event()

        def visit() -> None:
            """Join, receive for a while and leave, repeatedly."""
            chance = random.Random(threading.get_ident())
            while not done.is_set():
                seen: list[str] = []
                with connect(url) as websocket:
                    for _ in range(chance.randrange(1, 60)):
                        try:
                            seen.append(str(websocket.recv(timeout=0.05)))
                        except TimeoutError:
                            break
                heard.append(seen)

        def speak(number: int) -> None:
            with connect(url) as websocket:
                for i in range(400):
                    websocket.send(f"{number}:{i}")
                    websocket.recv(PATIENCE)

        def embed() -> None:
            """A thread without a connection."""
            for i in range(400):
                group.send(f"5:{i}")

        with connect(url) as witness:
            wait_for(lambda: len(group) == 1)
            visitors = [threading.Thread(target=visit) for _ in range(4)]
            speakers = [threading.Thread(target=speak, args=(n,)) for n in range(5)]
            speakers.append(threading.Thread(target=embed))
            for thread in visitors + speakers:
                thread.start()
            while len(witness_seen) < total:
                witness_seen.append(str(witness.recv(PATIENCE)))
            done.set()
            for thread in visitors + speakers:
                thread.join(PATIENCE)
    assert len(set(witness_seen)) == total
    for number in range(6):
        own = [text for text in witness_seen if text.startswith(f"{number}:")]
        assert own == [f"{number}:{i}" for i in range(400)]
    place = {text: index for index, text in enumerate(witness_seen)}
    assert any(heard)
    for seen in heard:
        if seen:
            start = place[seen[0]]
            assert seen == witness_seen[start : start + len(seen)]


def test_a_group_outlives_the_server_of_its_members() -> None:
    group = Group()
    with ExitStack() as stack:
        with hub() as it:
            websocket, _ = it.join(stack)
            group.add(websocket)
        group.send("nobody there")
        assert len(group) == 0
        with pytest.raises(ConnectionClosed):
            websocket.recv(PATIENCE)


def test_other_threads_can_send() -> None:
    group = Group()
    with hub() as it, ExitStack() as stack:
        websocket, peer = it.join(stack)
        group.add(websocket)

        def publish() -> None:
            for i in range(100):
                group.send(str(i))

        threads = [threading.Thread(target=publish) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        got = [peer.expect(TextMessage).data for _ in range(400)]
        assert sorted(got) == sorted([str(i) for i in range(100)] * 4)
