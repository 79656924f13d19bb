"""The messages that the server has not acknowledged yet."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

__all__ = ["Item", "Outbox"]

#: The most messages and characters that are sent and not acknowledged. Further items
#: wait here, so that no connection exceeds its backlog.
_WINDOW, _WINDOW_SIZE = 64, 128 * 1024

#: The most messages and characters that are not acknowledged, sent or not.
_CAPACITY, _CAPACITY_SIZE = 1000, 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Item:
    """An encoded event, and the nonce that its acknowledgement carries.

    The nonce is None for a join, which the next welcome resolves. A join is sent alone:
    earlier items belong to the old room, later items to the new one. ``line`` is the
    item in the plain dialect.
    """

    text: str
    nonce: str | None
    line: str
    #: Whether the program knows the nonce, and gets an event about its fate.
    announced: bool = True


class Outbox:
    """Items in the order in which they were added. A part of the state machine."""

    def __init__(self) -> None:
        #: The items that are not sent, the oldest first. To be read only.
        self.waiting: deque[Item] = deque()
        self._size = 0
        self._sent: dict[str | None, Item] = {}
        #: The number of characters that are sent and not acknowledged.
        self.sent_size = 0
        #: Items sent as plain lines to a server whose dialect is only assumed.
        self._aside: deque[Item] = deque()
        self._aside_size = 0
        #: The nonces of the items that were sent on a connection that broke.
        self._tried: set[str | None] = set()
        #: Since when there has always been an item; None if there is none.
        self.waiting_since: float | None = None

    def __len__(self) -> int:
        """Return the number of items that are not acknowledged."""
        return len(self._sent) + len(self.waiting)

    def pending(self) -> list[Item]:
        """Return the messages that are not acknowledged, in the order in which they were added."""
        return [item for item in (*self._sent.values(), *self.waiting) if item.nonce is not None]

    def add(self, item: Item, now: float) -> bool:
        """Append ``item``. Returns False, without any effect, if there are too many."""
        if (
            len(self._sent) + len(self.waiting) + len(self._aside) >= _CAPACITY
            or self._size + self.sent_size + self._aside_size >= _CAPACITY_SIZE
        ):
            return False
        if self.waiting_since is None:
            self.waiting_since = now
        self.waiting.append(item)
        self._size += len(item.text)
        return True

    def next(self) -> Item | None:
        """Return the next item to send and count it as sent; None if none may be sent now."""
        if not self.waiting or None in self._sent:
            return None
        item = self.waiting[0]
        if self._sent and (
            len(self._sent) >= _WINDOW
            or self.sent_size + len(item.text) > _WINDOW_SIZE
            or item.nonce is None
        ):
            return None
        self.waiting.popleft()
        self._size -= len(item.text)
        self._sent[item.nonce] = item
        self.sent_size += len(item.text)
        return item

    def resolve(self, nonce: str | None) -> Item | None:
        """Remove and return the sent item that the server has answered.

        None stands for the join. A nonce of another client is ignored.
        """
        item = self._sent.pop(nonce, None)
        if item is not None:
            self.sent_size -= len(item.text)
            self._tried.discard(nonce)
            if not self._sent and not self.waiting:
                self.waiting_since = None
        return item

    def is_repeated(self, nonce: str) -> bool:
        """Whether the item was sent on an earlier connection, too, and not answered."""
        return nonce in self._sent and nonce in self._tried

    def drop_larger(self, limit: int) -> list[str]:
        """Drop the unsent items of more than ``limit`` bytes. Returns their nonces."""
        return self._drop([item for item in self.waiting if len(item.text.encode()) > limit])

    def rewind(self, *, tried: bool) -> None:
        """After the loss of a connection, queue all unacknowledged items to be sent again.

        ``tried``: the server may have stored them, and recognizes them by their nonces.
        """
        if tried:
            self._tried.update(self._sent)
        self.waiting.extendleft(reversed(self._sent.values()))
        self._size += self.sent_size
        self._sent.clear()
        self.sent_size = 0

    # For a server of plain lines, which acknowledges nothing.

    def drop_tried(self) -> list[str]:
        """Drop the items that a server may have stored already. Returns their nonces.

        A server of plain lines would treat them as new messages.
        """
        tried = [item for item in self.waiting if item.nonce and item.nonce in self._tried]
        dropped = self._drop(tried)
        self._tried.clear()
        return dropped

    def set_aside(self, nonce: str | None) -> None:
        """Stop counting a sent item, but keep it until :meth:`forget` or :meth:`recall`."""
        item = self.resolve(nonce)
        if item is not None:
            self._aside.append(item)
            self._aside_size += len(item.text)

    def forget(self) -> int:
        """Discard the items that were set aside. Returns their number."""
        count = len(self._aside)
        self._aside.clear()
        self._aside_size = 0
        return count

    def recall(self, now: float) -> int:
        """Queue the items that were set aside to be sent again. Returns their number."""
        if self._aside and self.waiting_since is None:
            self.waiting_since = now
        self.waiting.extendleft(reversed(self._aside))
        self._size += self._aside_size
        return self.forget()

    def _drop(self, dropped: list[Item]) -> list[str]:
        for item in dropped:
            self.waiting.remove(item)
            self._size -= len(item.text)
        if not self._sent and not self.waiting:
            self.waiting_since = None
        return [item.nonce for item in dropped if item.nonce is not None]
