"""An absolute time limit that nested steps share."""

from __future__ import annotations

import selectors
import socket
import threading
import time
from dataclasses import dataclass
from math import inf

__all__ = ["Deadline", "StoppableDeadline", "wait_ready"]

# A selector that uses no descriptor, for waiting on one socket with a time limit.
_OneSelector: type[selectors.BaseSelector] = getattr(
    selectors, "PollSelector", selectors.SelectSelector
)

#: Seconds of the longest single wait.
_LONGEST_POLL = 86400.0
#: The same for a wait that another thread may stop.
_STOPPABLE_POLL = 0.1


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment on the monotonic clock.

    The steps of an operation share one ``Deadline``, so that together they take
    no longer than requested. It is immutable, so any thread may use it.
    """

    #: Seconds on the clock of :func:`time.monotonic`; ``inf`` means no limit.
    at: float

    @classmethod
    def after(cls, seconds: float | None) -> Deadline:
        """The moment ``seconds`` from now; ``None`` means no limit."""
        return cls(inf if seconds is None else time.monotonic() + seconds)

    def remaining(self) -> float | None:
        """Seconds left, never below 0; ``None`` without a limit."""
        if self.at == inf:
            return None
        return max(0.0, self.at - time.monotonic())

    @property
    def expired(self) -> bool:
        """Whether the moment has passed."""
        return time.monotonic() >= self.at

    def for_poll(self) -> float | None:
        """``remaining()``, limited to what a selector accepts for one wait.

        So the wait may end before the deadline.
        """
        remaining = self.remaining()
        return None if remaining is None else min(remaining, _LONGEST_POLL)

    def for_lock(self) -> float:
        """``remaining()`` for :meth:`threading.Lock.acquire`: -1 means no limit."""
        remaining = self.remaining()
        return -1 if remaining is None else remaining


@dataclass(frozen=True, slots=True)
class StoppableDeadline(Deadline):
    """A deadline that expires early when ``stop`` is set.

    A thread that waits with :meth:`for_poll`, and checks :attr:`expired` after each
    wait, notices the stop within a tenth of a second.
    """

    stop: threading.Event

    def remaining(self) -> float | None:
        """Seconds left, 0 after a stop; ``None`` without a limit."""
        # super() without arguments does not work in a dataclass with slots.
        return 0.0 if self.stop.is_set() else Deadline.remaining(self)

    @property
    def expired(self) -> bool:
        """Whether the moment has passed or ``stop`` is set."""
        return self.stop.is_set() or time.monotonic() >= self.at

    def for_poll(self) -> float | None:
        """``remaining()``, limited to a tenth of a second for one wait of a selector."""
        remaining = self.remaining()
        return _STOPPABLE_POLL if remaining is None else min(remaining, _STOPPABLE_POLL)


def wait_ready(sock: socket.socket, event: int, deadline: Deadline | None) -> bool:
    """Block until ``event`` of :mod:`selectors` happens at ``sock``. False: the deadline came."""
    with _OneSelector() as selector:
        selector.register(sock, event)
        while not selector.select(None if deadline is None else deadline.for_poll()):
            if deadline is not None and deadline.expired:
                return False
    return True
