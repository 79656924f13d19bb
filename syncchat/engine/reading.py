"""Reading logs: pages, tails, and searches, of which one runs at a time."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from ..errors import EngineFailed
from ..net import Deadline
from .interface import PAGE_BYTES, Message, Position, Tail

__all__ = ["SearchThrottle", "first_page", "matching", "patterns", "tail_of", "tail_start"]

#: Seconds that a search may take, and seconds that it may wait for its turn.
_SEARCH_SECONDS = 2.0
_PATIENCE = 5.0

#: The pause after a search, as a multiple of the time that it took.
_REST = 3.0

#: Seconds after which a search pauses so that other threads run, and seconds of the pause.
#: Needed since the server command sets a switch interval that is longer than a whole search.
_SLICE, _YIELD = 0.005, 0.0001


class SearchThrottle:
    """Lets one search run at a time, with a pause after each. From any thread."""

    def __init__(self) -> None:
        #: Guards the fields below. No other lock is taken under it.
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._busy = False
        self._closed = False
        #: When the pause ends, on the monotonic clock.
        self._rested_at = 0.0

    @contextmanager
    def take(self) -> Iterator[Deadline]:
        """Wait for a turn to search; the search must end by the returned deadline.

        Holds no lock during the ``with`` block. Raises :class:`EngineFailed` if there is
        no turn within 5 seconds, or after :meth:`close`.
        """
        patience = Deadline.after(_PATIENCE)
        with self._lock:
            while not self._closed and (self._busy or time.monotonic() < self._rested_at):
                if patience.expired:
                    raise EngineFailed("too many searches at the moment")
                until = patience.at if self._busy else min(patience.at, self._rested_at)
                self._changed.wait(Deadline(until).remaining())
            if self._closed:
                raise EngineFailed("the engine is closed")
            self._busy = True
        begin = time.monotonic()
        try:
            yield Deadline.after(_SEARCH_SECONDS)
        finally:
            now = time.monotonic()
            with self._lock:
                self._busy = False
                self._rested_at = now + _REST * (now - begin)
                self._changed.notify_all()

    def close(self) -> None:
        """Give no more turns: waiting and later calls of :meth:`take` raise."""
        with self._lock:
            self._closed = True
            self._changed.notify_all()

    def join(self) -> None:
        """Wait for the running search to end, after :meth:`close`.

        The caller must hold no lock that a search takes.
        """
        with self._lock:
            self._changed.wait_for(lambda: not self._busy)


def patterns(words: str) -> list[re.Pattern[str]]:
    """What a text must match, casefolded, to contain every one of ``words``."""
    return [re.compile(rf"\b{re.escape(word)}") for word in {*words.casefold().split()}]


def matching(
    messages: Iterable[Message], wanted: Sequence[re.Pattern[str]], deadline: Deadline
) -> Iterator[Message]:
    """The messages that match all of ``wanted``.

    Raises :class:`EngineFailed` after ``deadline``.
    """
    slice_end = time.monotonic() + _SLICE
    for message in messages:
        if time.monotonic() >= slice_end:
            time.sleep(_YIELD)
            slice_end = time.monotonic() + _SLICE
        if deadline.expired:
            raise EngineFailed("the search took too long")
        text = message.text.casefold()
        if all(word.search(text) for word in wanted):
            yield message


def first_page(messages: Iterable[Message], limit: int) -> tuple[list[Message], bool]:
    """The first messages, ``limit`` or one page at most, one at least; and whether that is all."""
    taken: list[Message] = []
    size = 0
    for message in messages:
        size += len(message.text.encode())
        if len(taken) == limit or (taken and size > PAGE_BYTES):
            return taken, False
        taken.append(message)
    return taken, True


def tail_start(position: Position, end: Position, limit: int) -> tuple[int, bool]:
    """The offset after which :meth:`Log.read_after` begins, and whether ``position`` is known."""
    if position.offset == 0:
        return 0, True
    if position.epoch == end.epoch and position.offset <= end.offset:
        return position.offset, True
    return max(0, end.offset - limit), False


def tail_of(messages: Sequence[Message], start: int, end: Position, *, known: bool) -> Tail:
    """The result of :meth:`Log.read_after`: the first page of ``messages`` after ``start``."""
    if messages:
        complete = known and messages[0].offset == start + 1
        return Tail(tuple(messages), complete, messages[-1].offset, end)
    # Retention has dropped everything after ``start``, or there was nothing.
    return Tail((), known and start == end.offset, end.offset, end)
