"""A peer that violates the protocol or disconnects, for either side."""

from __future__ import annotations

import pytest
from wsproto.connection import ConnectionType
from wsproto.events import CloseConnection, TextMessage

from syncchat.errors import ConnectionClosed
from tests.peer import PATIENCE, InThread, Maker, Peer, from_peer


def test_a_message_over_the_limit_is_1009(pair: Maker) -> None:
    websocket, peer = pair(max_message=100)
    peer.send(TextMessage(data="x" * 100))
    assert websocket.recv(PATIENCE) == "x" * 100
    peer.send_bytes(from_peer(peer, b"x" * 101))
    with pytest.raises(ConnectionClosed) as caught:
        websocket.recv(PATIENCE)
    assert caught.value.code == websocket.close_code == 1009
    assert peer.expect(CloseConnection).code == 1009


def test_the_limit_is_of_bytes_and_of_all_fragments_together(pair: Maker) -> None:
    websocket, peer = pair(max_message=10)
    peer.send(TextMessage(data="ü" * 5))
    assert websocket.recv(PATIENCE) == "ü" * 5
    peer.send(TextMessage(data="ü" * 3, message_finished=False))
    peer.send(TextMessage(data="ü" * 3, message_finished=False))
    with pytest.raises(ConnectionClosed) as caught:
        websocket.recv(PATIENCE)
    assert caught.value.code == 1009


def test_a_large_frame_is_refused_by_its_header(pair: Maker) -> None:
    websocket, peer = pair(max_message=1000)
    length = (1 << 40).to_bytes(8, "big")
    client = peer.protocol.client
    peer.send_bytes(bytes([0x82, 0xFF if client else 0x7F]) + length + bytes(4 + 2000))
    with pytest.raises(ConnectionClosed) as caught:
        websocket.recv(PATIENCE)
    assert caught.value.code == 1009


@pytest.mark.parametrize(
    ("first_byte", "payload", "code"),
    [
        (0x81, b"\xc3\x28", 1007),
        (0x81, b"\xed\xa0\x80", 1007),
        (0x01, b"\xff", 1007),
        (0x83, b"", 1002),
        (0x8B, b"", 1002),
        (0xC1, b"", 1002),
        (0x80, b"x", 1002),
        (0x09, b"", 1002),
        (0x88, b"\x03", 1002),
        (0x88, (1005).to_bytes(2, "big"), 1002),
        (0x88, (1000).to_bytes(2, "big") + b"\xff", 1007),
    ],
    ids=[
        "bad UTF-8", "a surrogate in UTF-8", "bad UTF-8 in a fragment", "a reserved opcode",
        "a reserved control opcode", "a reserved bit", "a continuation of nothing",
        "a ping in fragments", "a close of one byte", "a close that says 1005",
        "a close reason in bad UTF-8",
    ],
)  # fmt: skip
def test_a_violation_is_answered_with_its_code(
    pair: Maker, first_byte: int, payload: bytes, code: int
) -> None:
    websocket, peer = pair()
    peer.send_bytes(from_peer(peer, b"fine") + from_peer(peer, payload, first_byte))
    assert websocket.recv(PATIENCE) == "fine"
    with pytest.raises(ConnectionClosed) as caught:
        websocket.recv(PATIENCE)
    assert caught.value.code == websocket.close_code == code
    assert peer.expect(CloseConnection).code == code
    closing = InThread(websocket.close)
    assert peer.expect_end() == b""
    peer.close()
    closing.result()


@pytest.mark.parametrize(
    ("frames", "code", "reason"),
    [
        ([(0x81, b"\xc3\x28")], 1007, "invalid UTF-8 in a text message"),
        ([(0x01, b"\xff")], 1007, "invalid UTF-8 in a text message"),
        ([(0x01, b"\xc3"), (0x80, b"\x28")], 1007, "invalid UTF-8 in a text message"),
        ([(0x88, b"\x03\xe8\xff")], 1007, "invalid UTF-8 in a close reason"),
        ([(0x01, b"a"), (0x81, b"b")], 1002, "a message began inside another one"),
        ([(0x80, b"a")], 1002, "unexpected CONTINUATION"),
        ([(0x83, b"")], 1002, "Invalid opcode 0x3"),
        ([(0xC1, b"")], 1002, "Reserved bit set unexpectedly"),
        ([(0x88, b"\x03")], 1002, "CLOSE with 1 byte payload"),
    ],
)
def test_the_reason_for_a_violation_is_readable(
    pair: Maker, frames: list[tuple[int, bytes]], code: int, reason: str
) -> None:
    """Issue 13, item 5: neither a message of Python's codecs nor a ``repr`` is sent."""
    websocket, peer = pair()
    peer.send_bytes(b"".join(from_peer(peer, payload, first) for first, payload in frames))
    with pytest.raises(ConnectionClosed) as caught:
        websocket.recv(PATIENCE)
    assert (caught.value.code, caught.value.reason) == (code, reason)
    close = peer.expect(CloseConnection)
    assert (close.code, close.reason) == (code, reason)


def test_a_frame_with_wrong_masking_is_1002(pair: Maker) -> None:
    websocket, peer = pair()
    other = ConnectionType.SERVER if peer.protocol.client else ConnectionType.CLIENT
    peer.send_bytes(Peer(peer.sock, other).protocol.send(TextMessage(data="x")))
    with pytest.raises(ConnectionClosed) as caught:
        websocket.recv(PATIENCE)
    assert caught.value.code == 1002


@pytest.mark.parametrize("cut", ["FIN", "RST", "FIN in a frame", "RST in a frame"])
def test_a_connection_that_is_cut_is_1006(pair: Maker, cut: str) -> None:
    websocket, peer = pair()
    if cut.endswith("frame"):
        peer.send_bytes(from_peer(peer, b"0123456789")[:7])
    if cut.startswith("RST"):
        peer.reset()
    else:
        peer.close()
    with pytest.raises(ConnectionClosed) as caught:
        websocket.recv(PATIENCE)
    assert caught.value.code == websocket.close_code == 1006
    with pytest.raises(ConnectionClosed):
        websocket.send("x")
    websocket.close()


def test_iteration_ends_with_an_orderly_close_only(pair: Maker) -> None:
    websocket, peer = pair()
    peer.send(TextMessage(data="a"), TextMessage(data="b"), CloseConnection(code=1001))
    assert list(websocket) == ["a", "b"]
    other, other_peer = pair()
    other_peer.send(TextMessage(data="a"), CloseConnection(code=1011))
    messages = iter(other)
    assert next(messages) == "a"
    with pytest.raises(ConnectionClosed, match="1011"):
        next(messages)


@pytest.mark.parametrize("pieces", [1, 200], ids=["too long", "too many fragments"])
def test_a_message_over_the_limit_is_refused_after_earlier_answers(
    pair: Maker, pieces: int
) -> None:
    websocket, peer = pair(max_message=100, max_fragments=99)
    good = b"".join(peer.protocol.send(TextMessage(data=str(n))) for n in range(3))
    text = "x" * 101 if pieces == 1 else ""
    bad = b"".join(
        peer.protocol.send(TextMessage(data=text, message_finished=n == pieces))
        for n in range(1, pieces + 1)
    )
    peer.send_bytes(good + bad)
    for number in range(3):
        assert websocket.recv(PATIENCE) == str(number)
        websocket.send(f"heard {number}")
    with pytest.raises(ConnectionClosed) as caught:
        websocket.recv(PATIENCE)
    assert caught.value.code == 1009
    assert [peer.expect(TextMessage).data for _ in range(3)] == ["heard 0", "heard 1", "heard 2"]
    assert peer.expect(CloseConnection).code == 1009
