"""The queue of events that wait for the program to receive them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence

from ..errors import ConnectionClosed
from ..net import Deadline
from .events import Event

__all__ = ["Inbox"]

#: The most events that wait, and the most characters in the messages that brought them.
_MAX_EVENTS, _MAX_SIZE = 10_000, 16 * 1024 * 1024


class Inbox:
    """A bounded queue of events. Any thread may call every method.

    Until the first call of :meth:`receive`, a full queue drops its oldest event. After
    it, :meth:`hand` waits for room.
    """

    def __init__(self) -> None:
        #: Guards everything below. Taken after the client's lock in the lock order.
        self._lock = threading.Lock()
        #: Notified when an event is added or taken, and at the end.
        self._changed = threading.Condition(self._lock)
        #: Each event with its share of the characters that arrived.
        self._events: deque[tuple[Event, int]] = deque()
        self._size = 0
        #: Whether receive() has ever been called, and whether hand() must not wait any more.
        self._wanting = False
        self._closed = False
        #: The exception that follows the last event, once the connection has ended.
        self._end: ConnectionClosed | None = None

    def open(self) -> None:
        """Accept events again after an end. Events that already wait stay in the queue."""
        with self._lock:
            self._closed = False
            self._end = None

    def close(self) -> None:
        """Stop every :meth:`hand` from waiting. Events that do not fit are dropped."""
        with self._lock:
            self._closed = True
            self._changed.notify_all()

    def finish(self, end: ConnectionClosed) -> None:
        """Make :meth:`receive` raise ``end`` after the last event."""
        with self._lock:
            self._end = end
            self._changed.notify_all()

    def receive(self, deadline: Deadline) -> Event:
        """Return the next event. Raises :class:`TimeoutError`, or the end after the last event."""
        with self._lock:
            self._wanting = True
            self._changed.wait_for(
                lambda: self._events or self._end is not None, deadline.remaining()
            )
            if not self._events:
                raise self._end or TimeoutError("no event came in time")
            was_full = self._full_locked()
            event, size = self._events.popleft()
            self._size -= size
            if was_full:
                self._changed.notify_all()
            return event

    def hand(self, new: Sequence[Event], size: int = 0) -> None:
        """Add events, which arrived in ``size`` characters altogether. Waits for room."""
        share = size // len(new) if new else 0
        with self._lock:
            for event in new:
                self._changed.wait_for(
                    lambda: not self._full_locked() or self._closed or not self._wanting
                )
                if self._full_locked():
                    if self._closed:
                        return
                    # receive() was never called: drop the oldest event.
                    _, dropped = self._events.popleft()
                    self._size -= dropped
                self._append_locked(event, share)

    def put(self, event: Event) -> None:
        """Add an event of the client itself. Never waits, even if the queue is full."""
        with self._lock:
            self._append_locked(event, 0)

    def _append_locked(self, event: Event, size: int) -> None:
        self._events.append((event, size))
        self._size += size
        self._changed.notify_all()

    def _full_locked(self) -> bool:
        return len(self._events) >= _MAX_EVENTS or self._size >= _MAX_SIZE
