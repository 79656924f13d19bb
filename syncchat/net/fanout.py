"""The fan-out: a message is encoded once, and each member gets a batch in one write.

An unmasked, uncompressed frame has the same bytes for every client, so that all
members share it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence

from .websocket import WebSocket

__all__ = ["Fanout", "encode_frame", "write_frames"]

#: Bytes of joined frames in one write to a member. Small compared to a member's
#: maximum backlog, so that a large batch alone makes no member a slow consumer.
_MAX_WRITE = 256 * 1024

#: The first byte of an unfragmented data frame (RFC 6455, section 5.2).
_TEXT, _BINARY = 0x81, 0x82
#: The header of a frame with a payload of more than 125 bytes, and of more than 65,535.
_MEDIUM, _LONG = struct.Struct("!BBH"), struct.Struct("!BBQ")


def encode_frame(payload: bytes, *, binary: bool = False) -> bytes:
    """A message as one unmasked frame, which a server may send to any client.

    ``payload`` is text in UTF-8, or with ``binary`` any bytes.
    """
    first = _BINARY if binary else _TEXT
    size = len(payload)
    if size < 126:
        return bytes((first, size)) + payload
    if size < 65536:
        return _MEDIUM.pack(first, 126, size) + payload
    return _LONG.pack(first, 127, size) + payload


class Fanout:
    """The connections that receive the same frames. Only one thread at a time may use it.

    The owner sees to that: a :class:`~syncchat.net.Group` by a lock, another owner by
    using it only as the combiner of a :class:`~syncchat.net.CombiningQueue`.
    """

    def __init__(self) -> None:
        #: In the order in which they were added.
        self._members: dict[WebSocket, None] = {}
        #: The members for a faster loop, and for one without the owner's lock. None: they
        #: have changed.
        self._snapshot: tuple[WebSocket, ...] | None = ()

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, websocket: object) -> bool:
        return websocket in self._members

    @property
    def members(self) -> tuple[WebSocket, ...]:
        """The current members, in the order in which they were added."""
        if self._snapshot is None:
            self._snapshot = tuple(self._members)
        return self._snapshot

    def add(self, websocket: WebSocket) -> None:
        """Add a server's connection as a member. Has no effect if it is one."""
        self._members[websocket] = None
        self._snapshot = None

    def discard(self, websocket: WebSocket) -> None:
        """Remove a member. Has no effect if it is not one."""
        if websocket in self._members:
            del self._members[websocket]
            self._snapshot = None

    def write(
        self,
        frames: Sequence[bytes],
        special: Mapping[WebSocket, Sequence[bytes]] | None = None,
    ) -> None:
        """Write ``frames`` to every member, and remove the members that are closed.

        See :func:`write_frames` for ``special``.
        """
        if self._snapshot is None:
            self._snapshot = tuple(self._members)
        for websocket in write_frames(self._snapshot, frames, special):
            self.discard(websocket)


def write_frames(
    members: Sequence[WebSocket],
    frames: Sequence[bytes],
    special: Mapping[WebSocket, Sequence[bytes]] | None = None,
) -> list[WebSocket]:
    """Write ``frames`` to ``members``, and never wait for one of them.

    ``special`` maps some connections to the frames that they get instead. Returns the
    connections that accept no more data. From any thread; the caller keeps the order.
    """
    closed: list[WebSocket] = []
    if special:
        for websocket, own in special.items():
            closed += write_frames((websocket,), own)
        members = [websocket for websocket in members if websocket not in special]
    for data, count in ((frames[0], 1),) if len(frames) == 1 else _joined(frames):
        for websocket in members:
            if not websocket.write_frames(data, count):
                closed.append(websocket)
    return closed


def _joined(frames: Sequence[bytes]) -> Iterator[tuple[bytes, int]]:
    """The frames joined into writes, and the number of frames in each write."""
    begin = size = 0
    for at, frame in enumerate(frames):
        if size and size + len(frame) > _MAX_WRITE:
            yield b"".join(frames[begin:at]), at - begin
            begin, size = at, 0
        size += len(frame)
    if begin < len(frames):
        yield b"".join(frames[begin:]), len(frames) - begin
