"""What a stream could not send yet, in the order in which it must go out."""

from __future__ import annotations

from collections import deque

__all__ = ["Backlog"]

#: Bytes that are joined into one send.
_CHUNK = 262144


class Backlog:
    """A queue of writes behind one that is half done.

    At its head is what is on its way: bytes as they go over the wire, the
    rest of a write that the kernel has begun. Behind it wait whole writes as
    they were handed in, which under TLS are encrypted when their turn comes.
    So what waits can still be dropped, and neither a frame nor a TLS record is
    ever cut. For one thread at a time.
    """

    __slots__ = ("_begun", "_waiting", "size")

    def __init__(self) -> None:
        self._begun: deque[bytes | memoryview] = deque()
        self._waiting: deque[bytes] = deque()
        #: Bytes in it.
        self.size = 0

    def __bool__(self) -> bool:
        return self.size > 0

    def append(self, data: bytes) -> None:
        """Add a whole write, last in the line."""
        self._waiting.append(data)
        self.size += len(data)

    def append_begun(self, raw: bytes | memoryview) -> None:
        """Add bytes of the wire behind those that are on their way, before what waits."""
        self._begun.append(raw)
        self.size += len(raw)

    def put_back(self, raw: bytes | memoryview) -> None:
        """Put bytes of the wire that were taken, and not sent, at the head again."""
        self._begun.appendleft(raw)
        self.size += len(raw)

    def take_begun(self) -> bytes | memoryview | None:
        """The next bytes that are on their way; None: there are none."""
        if not self._begun:
            return None
        raw = self._begun.popleft()
        self.size -= len(raw)
        return raw

    def take_waiting(self) -> bytes:
        """The writes that wait longest, joined while they are small; at least one."""
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
        """Forget every write that has not begun."""
        self.size -= sum(map(len, self._waiting))
        self._waiting.clear()
