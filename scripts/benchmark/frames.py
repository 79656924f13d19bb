"""Frames: made for what clients send, and told apart and counted in what they get."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Sequence

__all__ = ["EqualFrames", "Frames", "UnequalFrames", "client_frame", "frame_end", "server_header"]


def client_frame(payload: bytes) -> bytes:
    """A masked text frame; the mask is zero, so that the payload stands in it as it is."""
    size = len(payload)
    if size < 126:
        return bytes([0x81, 0x80 | size, 0, 0, 0, 0]) + payload
    if size < 65536:
        return b"\x81\xfe" + size.to_bytes(2, "big") + bytes(4) + payload
    return b"\x81\xff" + size.to_bytes(8, "big") + bytes(4) + payload


def server_header(size: int) -> int:
    """Bytes of the header of a server's frame with ``size`` bytes of payload."""
    return 2 if size < 126 else 4 if size < 65536 else 10


def frame_end(data: bytes, start: int) -> int | None:
    """Where the server's frame that begins at ``start`` ends; None: not all of it is there."""
    if len(data) < start + 2:
        return None
    size, begin = data[start + 1], start + 2
    if size > 125:
        begin += 2 if size == 126 else 8
        size = int.from_bytes(data[start + 2 : begin], "big")
    return begin + size if begin + size <= len(data) else None


class Frames(ABC):
    """The messages that each client of a room gets, one frame each, from the first on."""

    @abstractmethod
    def ends(self, data: bytes, before: int) -> Sequence[int]:
        """Where the whole frames in ``data`` end, of which a client had ``before`` bytes before."""

    @abstractmethod
    def whole(self, received: int) -> int:
        """How many messages are whole in the first bytes that a client gets."""

    @abstractmethod
    def extent(self, messages: int) -> int:
        """How many bytes the first messages take; they have been whole."""

    @abstractmethod
    def deliveries(self, received: int) -> float:
        """How many messages are in so many bytes, whoever got them."""


class EqualFrames(Frames):
    """All have one size, so that nobody need look at them; of any number of rooms."""

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
    """Their sizes are seen in passing, at whoever's frames are told apart; of one room.

    All in a room get the same bytes, so that what one of them has seen is where
    the messages end for all.
    """

    def __init__(self) -> None:
        #: Bytes of the first 0, 1, 2, ... messages.
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
