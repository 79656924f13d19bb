"""The fan-out: encode each message once, and write a batch to each member at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from wsproto.frame_protocol import FrameProtocol

from .messages import Message
from .websocket import WebSocket

__all__ = ["Fanout"]

#: Bytes of joined frames in one write to a member. Small compared to a member's
#: maximum backlog, so that a large batch alone makes no member a slow consumer.
_MAX_WRITE = 256 * 1024


class Fanout:
    """Encodes messages and writes them to members. Only one thread at a time may use it."""

    def __init__(self) -> None:
        self._encoder = FrameProtocol(client=False, extensions=[])

    def encode(self, messages: Iterable[Message]) -> list[bytearray]:
        """A frame for each message. It is not masked, so every member gets the same bytes."""
        encode = self._encoder.send_data
        return [encode(message) for message in messages]

    @staticmethod
    def write(
        members: Sequence[WebSocket],
        frames: Sequence[bytearray],
        special: Mapping[WebSocket, Sequence[bytearray]] | None = None,
    ) -> set[WebSocket]:
        """Write ``frames`` to ``members``. Returns the members that accept no more data.

        ``special`` maps some members to the frames that they get instead. Never
        waits for a member.
        """
        closed: set[WebSocket] = set()
        if special:
            for websocket, own in special.items():
                for data, count in _joined(own):
                    if not websocket.write_frames(data, count):
                        closed.add(websocket)
            members = [websocket for websocket in members if websocket not in special]
        for data, count in _joined(frames):
            for websocket in members:
                if not websocket.write_frames(data, count):
                    closed.add(websocket)
        return closed


def _joined(frames: Sequence[bytearray]) -> Iterator[tuple[bytes, int]]:
    """The frames joined into writes, and the number of frames in each write."""
    if len(frames) == 1:
        yield bytes(frames[0]), 1
        return
    begin = size = 0
    for at, frame in enumerate(frames):
        if size and size + len(frame) > _MAX_WRITE:
            yield b"".join(frames[begin:at]), at - begin
            begin, size = at, 0
        size += len(frame)
    if begin < len(frames):
        yield b"".join(frames[begin:]), len(frames) - begin
