"""The events that a program receives besides the server's, and the queue in which all wait."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..chat.events import FromServer
from ..chat.sanitize import clean
from ..closecodes import ABNORMAL, GOING_AWAY, NO_CODE, NORMAL, meaning
from ..errors import ConnectionClosed
from ..net import Deadline

__all__ = ["Disconnected", "Event", "Gap", "Inbox", "Line", "Reconnected", "Sent", "ending"]

logger = logging.getLogger("syncchat.client")

#: The most events that wait, and the most characters in the messages that brought them.
_MAX_EVENTS, _MAX_SIZE = 10_000, 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Line:
    """A text from a server that does not speak ``syncchat.v1``, without its line end."""

    text: str


@dataclass(frozen=True, slots=True)
class Gap:
    """Messages after offset ``after`` are missing, because the server no longer has them.

    ``epoch`` is the epoch of the room's log. If it is unchanged, the missing offsets
    lie between ``after`` and the offset of the next message. ``anew``: the log has begun anew,
    and nothing of the new log is missing; what was said in the old one after ``after`` is lost.
    """

    after: int
    epoch: str
    anew: bool = False


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection is lost, with this close code. The client is about to reconnect."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Reconnected:
    """The connection is restored. The missed messages follow, if the server sends them."""


@dataclass(frozen=True, slots=True)
class Sent:
    """The message with this nonce was sent to a server that acknowledges nothing.

    Only for messages that the program sent before the client knew that the server does
    not speak ``syncchat.v1``. Later messages have no nonce.
    """

    nonce: str


#: The types that :meth:`Client.receive` returns.
Event = FromServer | Line | Gap | Disconnected | Reconnected | Sent


def ending(code: int, reason: str) -> str:
    """Tell how a connection ended, in one line that is safe for a terminal."""
    if code in (NORMAL, NO_CODE):
        return "The server closed the connection."
    if code == GOING_AWAY:
        return "The server has stopped."
    if code == ABNORMAL:
        because = f" ({clean(reason)})" if reason else ""
        return f"The connection to the server was lost{because}.".replace("\n", " ")
    because = f": {reason}" if reason else ""
    return clean(f"The server closed the connection, {meaning(code)}{because}").replace("\n", " ")


class Inbox:
    """A bounded queue of events. Any thread may call every method.

    Until the first call of :meth:`receive`, a full queue drops its oldest event. After
    it, :meth:`hand` waits for space. ``on_event`` is called after events, or the end, have come.
    """

    def __init__(self, on_event: Callable[[], None] | None = None) -> None:
        self._on_event = on_event
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
        self._tell()

    def receive(self, timeout: float | None) -> Event:
        """Return the next event. Raises :class:`TimeoutError`, or the end after the last event."""
        with self._lock:
            self._wanting = True
            if not self._events and self._end is None:
                deadline = Deadline.after(timeout)
                while not self._events and self._end is None:
                    if not self._changed.wait(deadline.remaining()):
                        break
            if not self._events:
                raise self._end or TimeoutError("no event arrived in time")
            was_full = self._full_locked()
            event, size = self._events.popleft()
            self._size -= size
            if was_full:
                self._changed.notify_all()
            return event

    def hand(self, new: Sequence[Event], size: int = 0) -> None:
        """Add events, which arrived in ``size`` characters altogether. Waits for space."""
        share = size // len(new) if new else 0
        with self._lock:
            for event in new:
                while self._full_locked():
                    if self._closed:
                        return
                    if self._wanting:
                        self._changed.notify_all()
                        self._changed.wait()
                    else:
                        # receive() was never called: drop the oldest event.
                        _, dropped = self._events.popleft()
                        self._size -= dropped
                self._events.append((event, share))
                self._size += share
            self._changed.notify_all()
        self._tell()

    def put(self, event: Event) -> None:
        """Add an event of the client itself. Never waits, even if the queue is full."""
        with self._lock:
            self._events.append((event, 0))
            self._changed.notify_all()
        self._tell()

    def _tell(self) -> None:
        """Call ``on_event`` without the lock, so that it may receive."""
        if self._on_event is not None:
            try:
                self._on_event()
            except Exception:
                logger.exception("on_event() failed")

    def _full_locked(self) -> bool:
        assert self._lock.locked()
        return len(self._events) >= _MAX_EVENTS or self._size >= _MAX_SIZE
