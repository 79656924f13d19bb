"""One absolute time limit, handed down through nested steps."""

from __future__ import annotations

import time
from dataclasses import dataclass
from math import inf

__all__ = ["Deadline"]

#: Seconds.
_LONGEST_POLL = 86400.0


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
