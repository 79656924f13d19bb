"""Searches in turn: they cost the more, the more there is to find, and others have to live on."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ..net import Deadline
from .interface import EngineFailed

__all__ = ["SEARCH_SECONDS", "SearchThrottle"]

#: Seconds that a search may take, and for which one may wait for its turn.
SEARCH_SECONDS = 2.0
_PATIENCE = 5.0

#: After a search there is none for so many times as long as it took.
_REST = 3.0


class SearchThrottle:
    """One at a time, with a rest after each. From any thread."""

    def __init__(self) -> None:
        #: Guards the fields below. First in the order of an engine's locks.
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._busy = False
        self._closed = False
        #: When the rest is over, on the monotonic clock.
        self._rested_at = 0.0

    @contextmanager
    def take(self) -> Iterator[Deadline]:
        """Have a turn, which is to be over by the deadline that is given.

        Raises :class:`EngineFailed` where others take too long.
        """
        patience = Deadline.after(_PATIENCE)
        with self._lock:
            while not self._closed and (self._busy or time.monotonic() < self._rested_at):
                if patience.expired:
                    raise EngineFailed("there are too many searches at the moment")
                until = patience.at if self._busy else min(patience.at, self._rested_at)
                self._changed.wait(Deadline(until).remaining())
            if self._closed:
                raise EngineFailed("it is closed")
            self._busy = True
        begin = time.monotonic()
        try:
            yield Deadline.after(SEARCH_SECONDS)
        finally:
            now = time.monotonic()
            with self._lock:
                self._busy = False
                self._rested_at = now + _REST * (now - begin)
                self._changed.notify_all()

    @contextmanager
    def over(self) -> Iterator[None]:
        """Wait for the last turn to end, after :meth:`close`."""
        with self._lock:
            self._changed.wait_for(lambda: not self._busy)
            yield

    def close(self) -> None:
        """Nobody gets a turn any more."""
        with self._lock:
            self._closed = True
            self._changed.notify_all()
