"""Flood control: who sends too fast is read more slowly.

The reader of a flooder waits, and TCP passes that on to the flooder; nothing
is lost and nobody is thrown out. (The way of the Ergo IRC server.)
"""

from __future__ import annotations

import time

__all__ = ["TokenBucket"]


class TokenBucket:
    """So many at once, then so many a second. For one thread at a time."""

    __slots__ = ("_burst", "_filled_at", "_rate", "_tokens")

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = float(max(burst, 1))
        self._tokens = self._burst
        self._filled_at = time.monotonic()

    def charge(self) -> float:
        """Take a token. The moment from which on there is another, on the monotonic clock.

        A moment in the past: there is one now.
        """
        now = time.monotonic()
        grown = (now - self._filled_at) * self._rate
        self._tokens = min(self._burst, self._tokens + grown) - 1.0
        self._filled_at = now
        return now + (1.0 - self._tokens) / self._rate if self._tokens < 1.0 else now
