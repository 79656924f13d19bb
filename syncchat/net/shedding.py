"""Closes the slowest clients when the backlogs of all take too much memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from .io_thread import Deadline, IOThread

__all__ = ["start_shedding"]

#: Seconds between two looks.
_PAUSE = 0.1


class Consumer(Protocol):
    """A client with a backlog."""

    @property
    def backlog_size(self) -> int:
        """Bytes that wait until the client takes them."""

    def shed(self) -> None:
        """Close it, and drop its backlog, because memory is short."""


def start_shedding(
    io_thread: IOThread, consumers: Callable[[], Iterable[Consumer]], limit: int | None
) -> None:
    """Shed those with the largest backlogs while all together exceed ``limit`` bytes.

    The I/O thread looks from time to time, until it ends, and calls ``consumers``.
    """
    if limit is None:
        return
    most = limit

    def look() -> None:
        # Set the next timer first, so that an exception does not end the looks.
        io_thread.call_at(Deadline.after(_PAUSE), look)
        sizes = [(size, each) for each in consumers() if (size := each.backlog_size)]
        total = sum(size for size, _ in sizes)
        if total <= most:
            return
        for size, each in sorted(sizes, key=lambda item: -item[0]):
            each.shed()
            total -= size
            if total <= most:
                return

    io_thread.call_at(Deadline.after(_PAUSE), look)
