"""The same bytes to many: encode once, join, and one write a member for a whole batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from wsproto.frame_protocol import FrameProtocol

from .messages import Message
from .websocket import WebSocket

__all__ = ["Fanout"]

#: Bytes that one write to a member may take. Small against the backlog that a
#: member may have, so that a large batch alone makes nobody a slow consumer.
_MAX_WRITE = 256 * 1024


class Fanout:
    """Encodes messages and writes them to members. For one thread at a time."""

    def __init__(self) -> None:
        self._encoder = FrameProtocol(client=False, extensions=[])

    def encode(self, messages: Iterable[Message]) -> list[bytearray]:
        """A frame for each message: the same bytes for every member, as it is not masked."""
        encode = self._encoder.send_data
        return [encode(message) for message in messages]

    @staticmethod
    def write(
        members: Sequence[WebSocket],
        frames: Sequence[bytearray],
        special: Mapping[WebSocket, Sequence[bytearray]] | None = None,
    ) -> set[WebSocket]:
        """Write ``frames`` to the members, and to each of ``special`` its own instead.

        Never blocks on a member. Returns those who take no more.
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
    """The frames as single writes, and how many each holds."""
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
