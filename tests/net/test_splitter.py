"""What arrives is read the same, however it is framed and wherever it is cut."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, Event, Ping, TextMessage

from syncchat.errors import ConnectionClosed
from syncchat.net import WebSocket
from syncchat.net.frame_parser import FrameParser
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
            # The pongs, which nobody looks at.
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


def test_what_is_whole_is_read_here_and_all_else_is_left_to_wsproto() -> None:
    client = Connection(ConnectionType.CLIENT)
    whole = bytes(client.send(TextMessage(data="whole")))
    ping = bytes(client.send(Ping()))
    splitter = FrameParser(is_client=False, max_message=100)
    splitter.feed(whole + ping + whole[:-1])
    assert splitter.next_message() == "whole"
    assert splitter.next_message() is None
    assert splitter.next_piece() == ping
    assert splitter.next_message() is None
    assert splitter.next_piece() == whole[:-1]
    assert splitter.next_piece() == b""
    splitter.feed(whole[-1:] + whole)
    assert splitter.next_message() is None
    assert splitter.next_piece() == whole[-1:]
    assert splitter.next_message() == "whole"


@pytest.mark.parametrize(
    "frame",
    [
        b"\x81\x85\0\0\0\0\xff\xff\xff\xff\xff",  # no UTF-8
        b"\x81\x05hello",  # unmasked
        b"\xc1\x85\0\0\0\0hello",  # a reserved bit
        b"\x83\x85\0\0\0\0hello",  # a reserved opcode
        b"\x81\xfe\x00\x05\0\0\0\0hello",  # the length in more bytes than it needs
        b"\x81\xff\0\0\0\0\0\0\x00\x05\0\0\0\0hello",
        b"\x81\xe5\0\0\0\0" + bytes(101),  # longer than a message may be
        b"\x01\x85\0\0\0\0hello",  # a fragment
    ],
)
def test_no_frame_with_a_fault_is_read_here(frame: bytes) -> None:
    splitter = FrameParser(is_client=False, max_message=100)
    splitter.feed(frame)
    assert splitter.next_message() is None
    assert splitter.next_piece() == frame


def test_a_fault_behind_good_messages_comes_after_them() -> None:
    with server_side() as (websocket, peer):
        good = bytes(peer.protocol.send(TextMessage(data="good")))
        peer.send_bytes(good * 3 + b"\x83\x80\0\0\0\0" + good)
        assert [websocket.recv(PATIENCE) for _ in range(3)] == ["good"] * 3
        with pytest.raises(ConnectionClosed) as caught:
            websocket.recv(PATIENCE)
        assert caught.value.code == 1002


def test_a_flood_of_tiny_frames_costs_each_byte_once() -> None:
    pings = bytes(Connection(ConnectionType.CLIENT).send(Ping())) * 200_000
    splitter = FrameParser(is_client=False, max_message=100)
    splitter.feed(pings)
    handed = 0
    # At 1.2 MB, a copy of the rest for each frame would be 120 GB.
    while piece := splitter.next_piece():
        handed += len(piece)
    assert handed == len(pings)
