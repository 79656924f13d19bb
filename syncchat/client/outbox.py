"""What a client has said and the server has not acknowledged yet."""

from __future__ import annotations

import time
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
    to the new one. ``line`` is the same in the plain dialect.
    """

    text: str
    nonce: str | None
    line: str
    #: Whether whoever said it knows the nonce, and is told what becomes of it.
    announced: bool = True


class Outbox:
    """In the order of saying; whoever uses it holds the client's lock."""

    def __init__(self) -> None:
        self._waiting: deque[Item] = deque()
        self._size = 0
        self._sent: dict[str | None, Item] = {}
        self._sent_size = 0
        #: Sent as plain lines to a server whose dialect is only assumed.
        self._aside: deque[Item] = deque()
        self._aside_size = 0
        #: The nonces of those in ``_waiting`` that a lost connection has carried.
        self._tried: set[str | None] = set()
        self._waiting_since = 0.0

    def __len__(self) -> int:
        """How many are not acknowledged."""
        return len(self._sent) + len(self._waiting)

    @property
    def full(self) -> bool:
        """Whether who has something to say must wait."""
        size = self._size + self._sent_size + self._aside_size
        return len(self) + len(self._aside) >= _CAPACITY or size >= _CAPACITY_SIZE

    @property
    def waiting_since(self) -> float | None:
        """Since when there has been something, on the monotonic clock; None: there is nothing."""
        return self._waiting_since if len(self) else None

    @property
    def sent_size(self) -> int:
        """Characters that are sent and not acknowledged."""
        return self._sent_size

    def add(self, item: Item) -> None:
        """Put ``item`` last."""
        if not len(self):
            self._waiting_since = time.monotonic()
        self._waiting.append(item)
        self._size += len(item.text)

    @property
    def first(self) -> Item | None:
        """The first that is not sent."""
        return self._waiting[0] if self._waiting else None

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
        self._take_sent(nonce)

    def drop_larger(self, limit: int) -> list[str]:
        """The nonces of what is not sent and has more than ``limit`` bytes, which is dropped."""
        larger = [item for item in self._waiting if len(item.text.encode()) > limit]
        for item in larger:
            self._waiting.remove(item)
            self._size -= len(item.text)
        return [item.nonce for item in larger if item.nonce is not None]

    def rewind(self, *, tried: bool) -> None:
        """The connection is lost: all that is not acknowledged is to be sent again.

        ``tried``: the server may have got it, and knows it again by its nonce.
        """
        if tried:
            self._tried.update(self._sent)
        self._waiting.extendleft(reversed(self._sent.values()))
        self._size += self._sent_size
        self._sent.clear()
        self._sent_size = 0

    # For a server of plain lines, which acknowledges nothing.

    def drop_tried(self) -> list[str]:
        """Drop what a server may have got already, and return the nonces.

        A server of plain lines would take it for something new.
        """
        tried = [item for item in self._waiting if item.nonce and item.nonce in self._tried]
        for item in tried:
            self._waiting.remove(item)
            self._size -= len(item.text)
        self._tried.clear()
        return [item.nonce for item in tried if item.nonce is not None]

    def set_aside(self, nonce: str | None) -> None:
        """It is sent, and kept until :meth:`forget` or :meth:`recall`; not counted any more."""
        item = self._take_sent(nonce)
        if item is not None:
            self._aside.append(item)
            self._aside_size += len(item.text)

    def forget(self) -> int:
        """Keep what was set aside no longer. Returns how much it was."""
        count = len(self._aside)
        self._aside.clear()
        self._aside_size = 0
        return count

    def recall(self) -> int:
        """What was set aside has not been said, and is to be sent again. Returns how many."""
        self._waiting.extendleft(reversed(self._aside))
        self._size += self._aside_size
        return self.forget()

    def _take_sent(self, nonce: str | None) -> Item | None:
        item = self._sent.pop(nonce, None)
        if item is not None:
            self._sent_size -= len(item.text)
            self._tried.discard(nonce)
        return item
