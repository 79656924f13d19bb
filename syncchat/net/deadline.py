"""One absolute time limit, handed down through nested steps."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from math import inf

__all__ = ["Deadline", "StoppableDeadline"]

#: Seconds.
_LONGEST_POLL = 86400.0
#: The same where somebody may stop the wait.
_STOPPABLE_POLL = 0.1


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment on the monotonic clock.

    Steps that follow each other, or call each other, share one ``Deadline``,
    so that together they take no longer than was asked for. Immutable, hence
    safe to use from any thread.
    """

    #: Seconds on :func:`time.monotonic`'s clock; ``inf`` is no limit.
    at: float

    @classmethod
    def after(cls, seconds: float | None) -> Deadline:
        """The moment ``seconds`` from now; ``None`` is no limit."""
        return cls(inf if seconds is None else time.monotonic() + seconds)

    def remaining(self) -> float | None:
        """Seconds left, never below 0; ``None`` where there is no limit."""
        if self.at == inf:
            return None
        return max(0.0, self.at - time.monotonic())

    @property
    def expired(self) -> bool:
        """Whether the moment has passed."""
        return time.monotonic() >= self.at

    def for_poll(self) -> float | None:
        """``remaining()`` for one wait of a selector, which knows none longer than some weeks.

        Hence the wait may end before the deadline has come.
        """
        remaining = self.remaining()
        return None if remaining is None else min(remaining, _LONGEST_POLL)

    def for_lock(self) -> float:
        """``remaining()`` as :meth:`threading.Lock.acquire` wants it: -1 is no limit."""
        remaining = self.remaining()
        return -1 if remaining is None else remaining


@dataclass(frozen=True, slots=True)
class StoppableDeadline(Deadline):
    """A deadline that comes early once ``stop`` is set.

    Whoever waits with :meth:`for_poll`, and looks at :attr:`expired` behind each
    wait, notices that within a tenth of a second.
    """

    stop: threading.Event

    def remaining(self) -> float | None:
        """Seconds left, 0 where it is stopped; ``None`` where there is no limit."""
        # Not super(), which a class with slots made by dataclass() does not have.
        return 0.0 if self.stop.is_set() else Deadline.remaining(self)

    @property
    def expired(self) -> bool:
        """Whether the moment has passed, or it is stopped."""
        return self.stop.is_set() or time.monotonic() >= self.at

    def for_poll(self) -> float | None:
        """``remaining()`` for one wait of a selector, which is short."""
        remaining = self.remaining()
        return _STOPPABLE_POLL if remaining is None else min(remaining, _STOPPABLE_POLL)
