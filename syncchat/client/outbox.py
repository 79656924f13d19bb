"""What a client has said and the server has not acknowledged yet."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

__all__ = ["Item", "Outbox"]

#: What may be on its way at a time, in messages and in characters; the rest waits
#: here, so that no connection takes more than its backlog.
_WINDOW, _WINDOW_SIZE = 64, 128 * 1024

#: The same of all that waits.
_CAPACITY, _CAPACITY_SIZE = 1000, 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Item:
    """An event, encoded, and the nonce that its acknowledgement is known by.

    None is for a join, which the next welcome settles: it is sent alone, since
    what is said before it belongs to the old room, and what is said behind it
    to the new one.
    """

    text: str
    nonce: str | None


class Outbox:
    """In the order of saying; whoever uses it holds the client's lock."""

    def __init__(self) -> None:
        self._waiting: deque[Item] = deque()
        self._size = 0
        self._sent: dict[str | None, Item] = {}
        self._sent_size = 0

    def __len__(self) -> int:
        """How many are not acknowledged."""
        return len(self._sent) + len(self._waiting)

    @property
    def full(self) -> bool:
        """Whether who has something to say must wait."""
        return len(self) >= _CAPACITY or self._size + self._sent_size >= _CAPACITY_SIZE

    def add(self, item: Item) -> None:
        """Put ``item`` last."""
        self._waiting.append(item)
        self._size += len(item.text)

    def next(self) -> Item | None:
        """The next item to send, which counts as sent now; None: none, or not now."""
        if not self._waiting or None in self._sent:
            return None
        item = self._waiting[0]
        if self._sent and (
            len(self._sent) >= _WINDOW
            or self._sent_size + len(item.text) > _WINDOW_SIZE
            or item.nonce is None
        ):
            return None
        self._waiting.popleft()
        self._size -= len(item.text)
        self._sent[item.nonce] = item
        self._sent_size += len(item.text)
        return item

    def settle(self, nonce: str | None) -> None:
        """The server has it, or has refused it. None is the join; nothing for a stranger's."""
        item = self._sent.pop(nonce, None)
        if item is not None:
            self._sent_size -= len(item.text)

    def drop_larger(self, limit: int) -> list[str]:
        """The nonces of what is not sent and has more than ``limit`` bytes, which is dropped."""
        larger = [item for item in self._waiting if len(item.text.encode()) > limit]
        for item in larger:
            self._waiting.remove(item)
            self._size -= len(item.text)
        return [item.nonce for item in larger if item.nonce is not None]

    def rewind(self) -> None:
        """The connection is lost: all that is not acknowledged is to be sent again."""
        self._waiting.extendleft(reversed(self._sent.values()))
        self._size += self._sent_size
        self._sent.clear()
        self._sent_size = 0
