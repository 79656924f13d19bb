"""The data that a stream could not send yet, in the order of sending."""

from __future__ import annotations

from collections import deque

__all__ = ["Backlog"]

#: Maximum bytes of small writes that are joined into one send.
_CHUNK = 262144


class Backlog:
    """A queue of writes, of which the first may be partly sent.

    At its head are begun bytes, ready for the network: the rest of a write that
    the kernel has accepted in part. After them come waiting writes, complete and
    unencrypted; under TLS they are encrypted just before they are sent. So waiting
    writes can be dropped without cutting a frame or a TLS record. Only one thread
    at a time may use it.
    """

    __slots__ = ("_begun", "_waiting", "size")

    def __init__(self) -> None:
        self._begun: deque[bytes | memoryview] = deque()
        self._waiting: deque[bytes] = deque()
        #: Bytes in the queue.
        self.size = 0

    def __bool__(self) -> bool:
        return self.size > 0

    def append(self, data: bytes) -> None:
        """Add a complete write at the end of the queue."""
        self._waiting.append(data)
        self.size += len(data)

    def append_begun(self, raw: bytes | memoryview) -> None:
        """Add network-ready bytes after the begun bytes, before the waiting writes."""
        self._begun.append(raw)
        self.size += len(raw)

    def put_back(self, raw: bytes | memoryview) -> None:
        """Put network-ready bytes that were taken, but not sent, back at the head."""
        self._begun.appendleft(raw)
        self.size += len(raw)

    def take_begun(self) -> bytes | memoryview | None:
        """Remove and return the first begun bytes; None if there are none."""
        if not self._begun:
            return None
        raw = self._begun.popleft()
        self.size -= len(raw)
        return raw

    def take_waiting(self) -> bytes:
        """Remove and return the oldest waiting write, joined with the next ones if small.

        There must be a waiting write.
        """
        data = self._waiting.popleft()
        if self._waiting and len(data) + len(self._waiting[0]) <= _CHUNK:
            pieces = [data]
            size = len(data)
            while self._waiting and size + len(self._waiting[0]) <= _CHUNK:
                pieces.append(self._waiting.popleft())
                size += len(pieces[-1])
            data = b"".join(pieces)
        self.size -= len(data)
        return data

    def drop_waiting(self) -> None:
        """Drop all waiting writes."""
        self.size -= sum(map(len, self._waiting))
        self._waiting.clear()
