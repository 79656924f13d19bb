"""The events that wait for whoever receives."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence

from ..errors import ConnectionClosed
from ..net import Deadline
from .events import Event

__all__ = ["Inbox"]

#: Events that wait, and the characters in which they came.
_MAX_EVENTS, _MAX_SIZE = 10_000, 16 * 1024 * 1024


class Inbox:
    """A bounded queue of events. Every method may be called from any thread.

    As long as nobody has ever called :meth:`receive`, only the last events are
    kept; from then on, :meth:`hand` waits for room.
    """

    def __init__(self) -> None:
        #: Guards everything below. Behind the client's lock in the lock order.
        self._lock = threading.Lock()
        #: An event has come or was taken, or it is over.
        self._changed = threading.Condition(self._lock)
        #: Each with the characters in which it came.
        self._events: deque[tuple[Event, int]] = deque()
        self._size = 0
        #: Somebody has asked for events; nobody is going to any more.
        self._wanting = False
        self._closed = False
        #: What is raised behind the last event, once there is one.
        self._end: ConnectionClosed | None = None

    def open(self) -> None:
        """Take events again, after an end. Those that wait still wait."""
        with self._lock:
            self._closed = False
            self._end = None

    def close(self) -> None:
        """Let no :meth:`hand` wait any more: what does not fit is dropped."""
        with self._lock:
            self._closed = True
            self._changed.notify_all()

    def finish(self, end: ConnectionClosed) -> None:
        """Raise ``end`` behind the last event."""
        with self._lock:
            self._end = end
            self._changed.notify_all()

    def receive(self, deadline: Deadline) -> Event:
        """The next event. Raises :class:`TimeoutError`, or the end."""
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
        """Have events received, which came in so many characters; waits for room."""
        share = size // len(new) if new else 0
        with self._lock:
            for event in new:
                self._changed.wait_for(
                    lambda: not self._full_locked() or self._closed or not self._wanting
                )
                if self._full_locked():
                    if self._closed:
                        return
                    # Nobody has ever asked.
                    _, dropped = self._events.popleft()
                    self._size -= dropped
                self._append_locked(event, share)

    def put(self, event: Event) -> None:
        """Have an event of the client's own received; never waits, however full it is."""
        with self._lock:
            self._append_locked(event, 0)

    def _append_locked(self, event: Event, size: int) -> None:
        self._events.append((event, size))
        self._size += size
        self._changed.notify_all()

    def _full_locked(self) -> bool:
        return len(self._events) >= _MAX_EVENTS or self._size >= _MAX_SIZE
