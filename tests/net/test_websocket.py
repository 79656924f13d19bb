"""One WebSocket, either side: the same suite for both, over real sockets."""

from __future__ import annotations

import queue
import socket
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage

from syncchat.errors import ConnectionClosed
from syncchat.net import WebSocket
from tests.peer import PATIENCE, InThread, Maker, from_peer, wait_for

# Messages.


def test_text_and_binary_arrive_as_str_and_bytes(pair: Maker) -> None:
    websocket, peer = pair()
    peer.send(TextMessage(data="häh?"), BytesMessage(data=b"\x00\xff"), TextMessage(data=""))
    assert [websocket.recv(PATIENCE) for _ in range(3)] == ["häh?", b"\x00\xff", ""]


def test_text_and_binary_are_sent_as_such(pair: Maker) -> None:
    websocket, peer = pair()
    websocket.send("häh?")
    websocket.send(b"\x00\xff")
    assert peer.expect(TextMessage).data == "häh?"
    assert peer.expect(BytesMessage).data == b"\x00\xff"


def test_messages_of_one_read_are_received_together(pair: Maker) -> None:
    websocket, peer = pair()
    peer.send(*[TextMessage(data=str(number)) for number in range(50)])
    received: list[Any] = []
    while len(received) < 50:
        received += websocket.recv_many(PATIENCE)
    assert received == [str(number) for number in range(50)]


def test_fragments_are_joined_and_pings_between_them_answered(pair: Maker) -> None:
    websocket, peer = pair()
    peer.send(TextMessage(data="Grü", message_finished=False), Ping(payload=b"between"))
    peer.send(TextMessage(data="", message_finished=False))
    peer.send(TextMessage(data="ße", message_finished=True))
    assert websocket.recv(PATIENCE) == "Grüße"
    assert peer.expect(Pong).payload == b"between"


def test_a_character_split_between_fragments_is_joined(pair: Maker) -> None:
    websocket, peer = pair()
    first, second = from_peer(peer, "ü".encode()[:1], 0x01), from_peer(peer, "ü".encode()[1:], 0x80)
    peer.send_bytes(first)
    peer.send_bytes(second)
    assert websocket.recv(PATIENCE) == "ü"


def test_frames_that_come_byte_by_byte_are_read(pair: Maker) -> None:
    websocket, peer = pair()
    for byte in peer.protocol.send(TextMessage(data="slowly")):
        peer.send_bytes(bytes([byte]))
    assert websocket.recv(PATIENCE) == "slowly"


def test_recv_times_out_and_the_connection_stays_open(pair: Maker) -> None:
    websocket, peer = pair()
    with pytest.raises(TimeoutError):
        websocket.recv(timeout=0.01)
    peer.send(TextMessage(data="later"))
    assert websocket.recv(PATIENCE) == "later"


def test_recv_times_out_while_another_thread_receives(pair: Maker) -> None:
    websocket, peer = pair()
    other = InThread(lambda: websocket.recv(PATIENCE))
    with pytest.raises(TimeoutError):
        websocket.recv(timeout=0.05)
    peer.send(TextMessage(data="for the other"))
    assert other.result() == "for the other"


def test_send_refuses_an_invalid_message(pair: Maker) -> None:
    websocket, peer = pair()
    with pytest.raises(TypeError):
        websocket.send(17)  # type: ignore[arg-type]
    with pytest.raises(UnicodeEncodeError):
        websocket.send("\ud800")
    websocket.send("still here")
    assert peer.expect(TextMessage).data == "still here"


def test_messages_of_many_threads_arrive_whole_and_in_each_threads_order(pair: Maker) -> None:
    websocket, peer = pair()

    def send_all(n: int) -> None:
        for i in range(200):
            websocket.send(f"{n} {i} " + "x" * (i % 300))

    threads = [InThread(partial(send_all, n)) for n in range(8)]
    seen: dict[str, list[int]] = {str(n): [] for n in range(8)}
    text = ""
    for _ in range(8 * 200):
        while not (event := peer.expect(TextMessage)).message_finished:
            text += event.data
        n, i, filling = (text + event.data).split(" ")
        assert filling == "x" * (int(i) % 300)
        seen[n].append(int(i))
        text = ""
    for thread in threads:
        thread.result()
    assert all(order == list(range(200)) for order in seen.values())


def test_a_large_message_to_a_late_reader_arrives_whole(pair: Maker) -> None:
    websocket, peer = pair()
    data = bytes(range(256)) * 65536
    websocket.send(data)
    received = bytearray()
    while True:
        event = peer.expect(BytesMessage)
        received += event.data
        if event.message_finished:
            break
    assert received == data
    websocket.flush(PATIENCE)


def test_flush_waits_for_the_peer_and_times_out(pair: Maker) -> None:
    websocket, peer = pair()
    websocket.send(bytes(16 * 1024 * 1024))
    with pytest.raises(TimeoutError):
        websocket.flush(0.05)
    flushing = InThread(lambda: websocket.flush(PATIENCE))
    while not peer.expect(BytesMessage).message_finished:
        pass
    flushing.result()


# Pings.


def test_a_ping_is_answered_with_its_payload(pair: Maker) -> None:
    websocket, peer = pair()
    peer.send(Ping(payload=b"are you there"), TextMessage(data="go on"))
    assert websocket.recv(PATIENCE) == "go on"
    assert peer.expect(Pong).payload == b"are you there"


def test_a_pong_gives_the_round_trip_of_its_ping_and_of_those_before(pair: Maker) -> None:
    websocket, peer = pair()
    first, second = websocket.ping(), websocket.ping(b"second")
    assert peer.expect(Ping).payload
    peer.send(peer.expect(Ping).response(), Pong(payload=b"unasked"), TextMessage(data="x"))
    assert websocket.recv(PATIENCE) == "x"
    assert first.result(0) >= second.result(0) > 0


def test_a_ping_without_an_answer_ends_with_the_connection(pair: Maker) -> None:
    websocket, peer = pair()
    pong = websocket.ping()
    peer.close()
    with pytest.raises(ConnectionClosed):
        websocket.recv(PATIENCE)
    with pytest.raises(ConnectionClosed):
        pong.result(PATIENCE)
    with pytest.raises(ConnectionClosed):
        websocket.ping()
    with pytest.raises(ValueError, match="125"):
        websocket.ping(bytes(126))


# The closing handshake.


def test_the_peer_closes_and_is_answered(pair: Maker) -> None:
    websocket, peer = pair()
    assert websocket.close_code is None
    assert websocket.close_reason is None
    peer.send(CloseConnection(code=4001, reason="had enough"))
    with pytest.raises(ConnectionClosed, match="4001: had enough") as caught:
        websocket.recv(PATIENCE)
    assert (caught.value.code, caught.value.reason) == (4001, "had enough")
    assert repr((websocket.close_code, websocket.close_reason)) == "(4001, 'had enough')"
    assert peer.expect(CloseConnection).code == 4001
    closing = InThread(websocket.close)
    assert peer.expect_end() == b""
    peer.close()
    closing.result()


def test_a_close_without_a_code_is_1005(pair: Maker) -> None:
    websocket, peer = pair()
    peer.send_bytes(from_peer(peer, b"", 0x88))
    assert list(websocket) == []
    assert websocket.close_code == 1005
    assert peer.expect(CloseConnection).code == 1005


def test_closing_waits_for_the_answer_and_drops_what_comes_before_it(pair: Maker) -> None:
    websocket, peer = pair()
    closing = InThread(lambda: websocket.close(4002, "bye"))
    close = peer.expect(CloseConnection)
    assert (close.code, close.reason) == (4002, "bye")
    peer.send_bytes(from_peer(peer, b"too late"))
    peer.send_bytes(peer.protocol.send(close.response()))
    assert peer.expect_end() == b""
    peer.close()
    closing.result()
    assert websocket.close_code == 4002
    with pytest.raises(ConnectionClosed):
        websocket.recv()
    with pytest.raises(ConnectionClosed):
        websocket.send("x")
    websocket.close()


def test_close_keeps_its_deadline_whatever_the_peer_does(pair: Maker) -> None:
    websocket, peer = pair()
    begun = time.monotonic()
    websocket.close(timeout=0.1)
    assert time.monotonic() - begun < PATIENCE
    assert websocket.close_code == 1006
    peer.expect(CloseConnection)


def test_close_of_one_thread_ends_recv_of_another(pair: Maker) -> None:
    websocket, peer = pair()
    receiving = InThread(websocket.recv)
    closing = InThread(lambda: websocket.close(timeout=0.2))
    peer.expect(CloseConnection)  # and no answer
    closing.result()
    with pytest.raises(ConnectionClosed):
        receiving.result()


def test_messages_ahead_of_a_close_come_first_and_can_be_answered(pair: Maker) -> None:
    websocket, peer = pair()
    peer.send(TextMessage(data="one"), TextMessage(data="two"), CloseConnection(code=1000))
    assert websocket.recv(PATIENCE) == "one"
    websocket.send("to one")
    assert websocket.recv(PATIENCE) == "two"
    websocket.send("to two")
    assert list(websocket) == []
    with pytest.raises(ConnectionClosed):
        websocket.send("to nobody")
    assert peer.expect(TextMessage).data == "to one"
    assert peer.expect(TextMessage).data == "to two"
    assert peer.expect(CloseConnection).code == 1000


def test_closes_can_cross(pair: Maker) -> None:
    websocket, peer = pair()
    peer.send(TextMessage(data="one"), CloseConnection(code=4003))
    assert websocket.recv(PATIENCE) == "one"
    closing = InThread(lambda: websocket.close(4004))
    assert peer.expect(CloseConnection).code == 4004
    peer.expect_end()
    peer.close()
    closing.result()
    assert websocket.close_code == 4003


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 70000])
def test_invalid_close_codes_are_refused(pair: Maker, code: int) -> None:
    websocket, _ = pair()
    with pytest.raises(ValueError, match=str(code)):
        websocket.close(code)
    with pytest.raises(ValueError, match="123"):
        websocket.close(1000, "x" * 124)
    assert websocket.close_code is None


# Slow consumers.


def test_a_peer_with_a_full_backlog_gets_1013_after_whole_frames(pair: Maker) -> None:
    websocket, peer = pair(max_backlog=100_000)
    sent = 0
    with pytest.raises(ConnectionClosed) as caught:
        while True:
            websocket.send(bytes(50_000))
            sent += 1
    assert caught.value.code == websocket.close_code == 1013
    arrived = 0
    while not isinstance(event := peer.next(), CloseConnection):
        assert isinstance(event, BytesMessage)
        arrived += event.message_finished
    assert event.code == 1013
    assert 0 < arrived <= sent
    with pytest.raises(ConnectionClosed):
        websocket.send("x")


def test_a_peer_that_reads_nothing_for_too_long_is_cut_off(pair: Maker) -> None:
    websocket, peer = pair(stall_timeout=0.2, max_backlog=100_000_000)
    receiving = InThread(websocket.recv)
    websocket.send(bytes(50_000_000))
    with pytest.raises(ConnectionClosed) as caught:
        receiving.result()
    assert caught.value.code == websocket.close_code == 1013
    assert 0 < len(peer.expect_end()) < 50_000_000


@pytest.mark.slow
def test_a_peer_that_reads_a_little_is_not_cut_off(pair: Maker) -> None:
    websocket, peer = pair(stall_timeout=1.5, max_backlog=100_000_000)
    websocket.send(bytes(20_000_000))
    begun = time.monotonic()
    read = 0
    while time.monotonic() - begun < 2.5:
        # Too slow to take all within the limit, but never without progress.
        read += len(peer.sock.recv(1_000_000))
        threading.Event().wait(0.2)
    assert websocket.close_code is None
    websocket.send("x")


# Time limits with a peer that sends all the time.


@pytest.mark.slow
def test_time_limits_hold_under_a_flood(pair: Maker) -> None:
    websocket, peer = pair()
    over = threading.Event()

    def flood() -> None:
        pongs = from_peer(peer, b"", 0x8A) * 1000
        try:
            while not over.is_set():
                peer.send_bytes(pongs)
        except OSError:
            return  # It was cut off, as it should be.

    flooding = InThread(flood)
    try:
        begun = time.monotonic()
        with pytest.raises(TimeoutError):
            websocket.recv(timeout=0.2)
        websocket.close(timeout=0.2)
        assert time.monotonic() - begun < PATIENCE
    finally:
        over.set()
    flooding.result()
    assert websocket.close_code == 1006


def test_the_callback_of_a_pong_may_close(pair: Maker) -> None:
    websocket, peer = pair()
    pong = websocket.ping()
    pong.add_done_callback(lambda _: websocket.close(4005, timeout=0.5))
    receiving = InThread(websocket.recv)
    peer.send(peer.expect(Ping).response())
    close = peer.expect(CloseConnection)
    assert close.code == 4005
    peer.send(close.response())
    peer.expect_end()
    peer.close()
    with pytest.raises(ConnectionClosed):
        receiving.result()


def test_time_limits_beyond_the_range_of_poll_work(pair: Maker) -> None:
    websocket, peer = pair(stall_timeout=1e9, ping_interval=1e9, ping_timeout=1e9)
    receiving = InThread(lambda: websocket.recv(timeout=1e9))
    websocket.send(bytes(20_000_000))
    while not peer.expect(BytesMessage).message_finished:
        pass
    peer.send(TextMessage(data="after all"))
    assert receiving.result() == "after all"


class Waiting:
    """A thread that does ``work``, and the system call in which it waits."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._work = work
        self._id: queue.Queue[int] = queue.Queue()
        self.done = InThread(self._run)
        self._task = Path(f"/proc/self/task/{self._id.get(timeout=PATIENCE)}")

    def _run(self) -> None:
        self._id.put(threading.get_native_id())
        self._work()

    def system_call(self) -> list[str]:
        """Its number and its first argument."""
        return self._task.joinpath("syscall").read_text().split()[:2]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_reader_blocks_in_recv_itself_and_polls_for_nothing(pair: Maker) -> None:
    websocket, peer = pair()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        plain = Waiting(lambda: silent.recv(1))
        wait_for(lambda: plain.system_call()[1:] == [hex(silent.fileno())])
        reader = Waiting(partial(list_quietly, websocket))
        wait_for(lambda: reader.system_call()[0] == plain.system_call()[0])
        silent.sendto(b"x", silent.getsockname())
        plain.done.result()
    peer.close()
    reader.done.result()


def test_repr_shows_the_side_the_peer_and_the_state(pair: Maker) -> None:
    websocket, peer = pair()
    side = "server" if peer.protocol.client else "client"
    port = peer.sock.getsockname()[1]
    assert repr(websocket) == f"<WebSocket {side} side, 127.0.0.1:{port}, open>"
    assert websocket.remote_address == ("127.0.0.1", port)
    peer.close()
    wait_for(lambda: not list_quietly(websocket))
    assert "open" not in repr(websocket) or websocket.close_code == 1006


def list_quietly(websocket: WebSocket) -> list[Any]:
    try:
        return list(websocket)
    except ConnectionClosed:
        return []
