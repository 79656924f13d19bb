"""The protocol: the result does not depend on framing or on the sizes of reads."""

from __future__ import annotations

import random
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import FrameType
from typing import Any

import pytest
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, Event, Ping, TextMessage

from syncchat.errors import ConnectionClosed
from syncchat.net import WebSocket
from syncchat.net.protocol import Close, Fragment, Pong, Protocol, Violation, checked
from syncchat.net.protocol import Event as ProtocolEvent
from syncchat.net.protocol import Ping as PingEvent
from tests.peer import PATIENCE, Peer, client_side, server_side

Message = str | bytes
SIZES = [0, 1, 64, 125, 126, 127, 1000, 1024, 1025, 65535, 65536, 70000]


def frames_of(message: Message, pieces: int) -> list[Event]:
    """The message in so many fragments."""
    kind: Any = TextMessage if isinstance(message, str) else BytesMessage
    step = len(message) // pieces + 1
    parts = [message[at : at + step] for at in range(0, len(message), step)] or [message]
    return [kind(data=p, message_finished=p is parts[-1]) for p in parts[:-1]] + [
        kind(data=parts[-1], message_finished=True)
    ]


def conversation(most: int) -> tuple[list[Event], list[Message]]:
    """Events and the messages that they make, of sizes that fit pieces of up to ``most`` bytes."""
    chance = random.Random(most)
    sizes = [size for size in SIZES if size <= most * 100]
    events: list[Event] = []
    messages: list[Message] = []
    for number in range(60):
        size = chance.choice(sizes)
        text = f"{number} " + chance.choice("aü\U0001f600") * size
        message: Message = text if chance.random() < 0.7 else text.encode()
        messages.append(message)
        for frame in frames_of(message, chance.choice([1, 1, 1, 1, 2, 5])):
            if chance.random() < 0.2:
                events.append(Ping(payload=b"still there?"))
            events.append(frame)
    return events, messages


@pytest.mark.parametrize("side", [server_side, client_side], ids=["server", "client"])
@pytest.mark.parametrize("most", [1, 7, 200, 5000, 300_000])
def test_messages_arrive_whole_and_in_order_wherever_the_stream_is_cut(
    side: Callable[..., AbstractContextManager[tuple[WebSocket, Peer]]], most: int
) -> None:
    events, messages = conversation(most)
    with side(max_message=1_000_000) as (websocket, peer):
        data = b"".join(peer.protocol.send(event) for event in events)
        chance = random.Random(most)

        def send() -> None:
            at = 0
            while at < len(data):
                size = chance.randint(1, most)
                peer.sock.sendall(data[at : at + size])
                at += size

        def drain() -> None:
            # The pongs, which the test ignores.
            while peer.sock.recv(65536):
                pass

        peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threads = [threading.Thread(target=send), threading.Thread(target=drain)]
        for thread in threads:
            thread.start()
        assert [websocket.recv(PATIENCE) for _ in messages] == messages
        websocket.abort()
        for thread in threads:
            thread.join()


# The protocol alone, without a socket.


def protocol(*, is_client: bool = False, max_fragments: int = 10) -> Protocol:
    return Protocol(100, max_fragments, is_client=is_client)


def events_of(receiver: Protocol, data: bytes, step: int | None = None) -> list[ProtocolEvent]:
    """The events of ``data``, which arrives in pieces of ``step`` bytes."""
    found = []
    for at in range(0, len(data), step or len(data)):
        receiver.receive(data[at : at + (step or len(data))])
        while (event := receiver.next_event()) is not None:
            found.append(event)
            if isinstance(event, Close | Violation):
                return found
    return found


@pytest.mark.parametrize("step", [None, 1, 3])
@pytest.mark.parametrize("is_client", [False, True], ids=["server", "client"])
def test_every_frame_is_one_event(is_client: bool, step: int | None) -> None:
    other = protocol(is_client=not is_client)
    peer = Connection(ConnectionType.SERVER if is_client else ConnectionType.CLIENT)
    data = b"".join(
        [
            other.encode("whole") or b"",
            other.ping(b"p") or b"",
            other.encode(b"\0\xff") or b"",
            peer.send(TextMessage(data="in ", message_finished=False)),
            other.pong(b"q") or b"",
            peer.send(TextMessage(data="pieces")),
            other.encode("whole") or b"",
            other.close(4000, "bye") or b"",
        ]
    )
    assert events_of(protocol(is_client=is_client), data, step) == [
        "whole", PingEvent(b"p"), b"\0\xff", Fragment(), Pong(b"q"), "in pieces", "whole",
        Close(4000, "bye"),
    ]  # fmt: skip


@pytest.mark.parametrize("step", [None, 1])
@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"\x81\x85\0\0\0\0\xff\xff\xff\xff\xff", 1007),  # no UTF-8
        (b"\x81\x05hello", 1002),  # unmasked
        (b"\xc1\x85\0\0\0\0hello", 1002),  # a reserved bit
        (b"\x83\x85\0\0\0\0hello", 1002),  # a reserved opcode
        # A length encoded in more bytes than necessary.
        (b"\x81\xfe\x00\x05\0\0\0\0hello", 1002),
        (b"\x81\xfe\x00\x7d\0\0\0\0" + bytes(125), 1002),
        (b"\x81\xff\0\0\0\0\0\0\x00\x05\0\0\0\0hello", 1002),
        (b"\x81\xff\0\0\0\0\0\0\xff\xff\0\0\0\0" + bytes(65535), 1002),
        (b"\x81\xff\x80\0\0\0\0\0\0\x05\0\0\0\0hello", 1002),
        (b"\x81\xe5\0\0\0\0" + bytes(101), 1009),  # longer than a message may be
        (b"\x81\xfe\x00\x7e\0\0\0\0" + bytes(126), 1009),
        (b"\x82\xff\0\0\0\0\0\1\0\0\0\0\0\0" + bytes(65536), 1009),
    ],
)
def test_an_invalid_frame_is_a_violation(frame: bytes, code: int, step: int | None) -> None:
    good = b"\x81\x84\0\0\0\0good"
    *before, violation = events_of(protocol(), good + frame, step)
    assert before == ["good"]
    assert isinstance(violation, Violation)
    assert violation.code == code


@pytest.mark.parametrize("size", [0, 1, 125, 126, 1024, 1025, 65535, 65536])
@pytest.mark.parametrize("is_client", [False, True], ids=["server", "client"])
def test_whole_frames_of_all_sizes_of_length_are_read(is_client: bool, size: int) -> None:
    for message in ("x" * size, bytes(size)):
        frame = protocol(is_client=not is_client).encode(message) or b""
        receiver = Protocol(70_000, 10, is_client=is_client)
        assert events_of(receiver, frame * 2) == [message] * 2


def test_too_many_fragments_are_a_violation() -> None:
    first, further = b"\x01\x81\0\0\0\0a", b"\x00\x80\0\0\0\0"
    events = events_of(protocol(max_fragments=3), first + further * 3)
    assert events[:-1] == [Fragment()] * 3
    assert isinstance(events[-1], Violation)
    assert events[-1].code == 1009


def test_after_a_close_nothing_is_encoded() -> None:
    end = protocol()
    assert end.state == "open"
    assert end.close(1000, "")
    assert end.state == "closing"
    assert end.encode("x") is end.ping(b"") is end.pong(b"") is end.close(1000, "") is None
    other = protocol()
    other.end(1006, "gone")
    assert other.encode("x") is None
    assert not other.note_close(1000, "")
    assert (other.state, other.close_code, other.close_reason) == ("closed", 1006, "gone")


def test_an_invalid_message_is_refused_before_it_is_encoded() -> None:
    assert checked("\xfc") == ("\xfc", 2)
    assert checked(bytearray(b"x")) == (b"x", 1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not int"):
        checked(5)  # type: ignore[arg-type]
    with pytest.raises(UnicodeEncodeError):
        checked("\ud800")


def test_a_violation_follows_the_messages_before_it() -> None:
    with server_side() as (websocket, peer):
        good = bytes(peer.protocol.send(TextMessage(data="good")))
        peer.send_bytes(good * 3 + b"\x83\x80\0\0\0\0" + good)
        assert [websocket.recv(PATIENCE) for _ in range(3)] == ["good"] * 3
        with pytest.raises(ConnectionClosed) as caught:
            websocket.recv(PATIENCE)
        assert caught.value.code == 1002


@pytest.mark.slow
def test_a_flood_of_tiny_frames_is_parsed_in_linear_time(*, full: bool) -> None:
    frames = 200_000 if full else 50_000
    pings = bytes(Connection(ConnectionType.CLIENT).send(Ping())) * frames
    receiver = protocol()
    receiver.receive(pings)
    count = 0
    # At 1.2 MB (--full), a copy of the rest for each frame would be 120 GB.
    while receiver.next_event() == PingEvent(b""):
        count += 1
    assert count == frames


def test_a_thread_that_sees_the_end_sees_its_code_and_reason() -> None:
    protocol = Protocol(1000, 10, is_client=False)
    seen: set[tuple[bool, int | None, str]] = set()

    def look(frame: FrameType, event: str, argument: object) -> Any:
        # What another thread may see before each instruction of end().
        frame.f_trace_opcodes = True
        seen.add((protocol.ended, protocol.close_code, protocol.close_reason))
        return look

    before = sys.gettrace()
    sys.settrace(look)
    try:
        protocol.end(1001, "bye")
    finally:
        sys.settrace(before)
    assert (False, None, "") in seen
    for ended, code, reason in seen:
        assert code == 1001 or not ended
        assert reason == "bye" or code is None
