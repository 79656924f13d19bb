"""Makes the frames that clients send, and splits and counts the frames that they receive."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Sequence

__all__ = ["EqualFrames", "Frames", "UnequalFrames", "client_frame", "frame_end", "server_header"]


def client_frame(payload: bytes) -> bytes:
    """Return a masked text frame. The mask is zero, so the payload is unchanged."""
    size = len(payload)
    if size < 126:
        return bytes([0x81, 0x80 | size, 0, 0, 0, 0]) + payload
    if size < 65536:
        return b"\x81\xfe" + size.to_bytes(2, "big") + bytes(4) + payload
    return b"\x81\xff" + size.to_bytes(8, "big") + bytes(4) + payload


def server_header(size: int) -> int:
    """Return the size of the header of a server's frame with ``size`` bytes of payload."""
    return 2 if size < 126 else 4 if size < 65536 else 10


def frame_end(data: bytes, start: int) -> int | None:
    """Return where the server's frame that begins at ``start`` ends; None if it is incomplete."""
    if len(data) < start + 2:
        return None
    size, begin = data[start + 1], start + 2
    if size > 125:
        begin += 2 if size == 126 else 8
        size = int.from_bytes(data[start + 2 : begin], "big")
    return begin + size if begin + size <= len(data) else None


class Frames(ABC):
    """The messages that each client of a room receives, one frame each, since the start."""

    @abstractmethod
    def ends(self, data: bytes, before: int) -> Sequence[int]:
        """Return where the complete frames in ``data`` end.

        The client had received ``before`` bytes before ``data``.
        """

    @abstractmethod
    def whole(self, received: int) -> int:
        """Return how many messages are complete in the first ``received`` bytes."""

    @abstractmethod
    def extent(self, messages: int) -> int:
        """Return how many bytes the first ``messages`` take. All must have been complete."""

    @abstractmethod
    def deliveries(self, received: int) -> float:
        """Return how many messages ``received`` bytes contain, added up over all clients."""


class EqualFrames(Frames):
    """Frames of one size, which need not be parsed. For any number of rooms."""

    def __init__(self, size: int) -> None:
        self._size = size

    def ends(self, data: bytes, before: int) -> Sequence[int]:  # noqa: ARG002 - the others' need
        return range(self._size, len(data) + 1, self._size)

    def whole(self, received: int) -> int:
        return received // self._size

    def extent(self, messages: int) -> int:
        return messages * self._size

    def deliveries(self, received: int) -> float:
        return received / self._size


class UnequalFrames(Frames):
    """Frames of different sizes, which are learned from the clients whose frames are parsed.

    Only for one room. All clients of a room receive the same bytes, so the messages end
    at the same places for all of them.
    """

    def __init__(self) -> None:
        #: The bytes of the first 0, 1, 2, ... messages.
        self._extents = [0]

    def ends(self, data: bytes, before: int) -> Sequence[int]:
        found: list[int] = []
        end = frame_end(data, 0)
        while end is not None:
            found.append(end)
            if before + end > self._extents[-1]:
                self._extents.append(before + end)
            end = frame_end(data, end)
        return found

    def whole(self, received: int) -> int:
        return bisect_right(self._extents, received) - 1

    def extent(self, messages: int) -> int:
        return self._extents[messages]

    def deliveries(self, received: int) -> float:
        return received * (len(self._extents) - 1) / max(1, self._extents[-1])
