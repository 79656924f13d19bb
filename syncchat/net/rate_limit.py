"""Rate limit: the server reads more slowly from a peer that sends too fast.

The reading thread waits, and TCP backpressure slows the peer down. Nothing is
lost, and the connection stays open. (The Ergo IRC server does the same.)
"""

from __future__ import annotations

import time

__all__ = ["TokenBucket"]


class TokenBucket:
    """Allows ``burst`` tokens at once, then ``rate`` tokens per second.

    Only one thread at a time may use it.
    """

    __slots__ = ("_burst", "_filled_at", "_rate", "_tokens")

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = float(max(burst, 1))
        self._tokens = self._burst
        self._filled_at = time.monotonic()

    def charge(self) -> float:
        """Take a token. Returns when the next token is available, on the monotonic clock.

        Returns the present moment if a token is available now.
        """
        now = time.monotonic()
        grown = (now - self._filled_at) * self._rate
        self._tokens = min(self._burst, self._tokens + grown) - 1.0
        self._filled_at = now
        return now + (1.0 - self._tokens) / self._rate if self._tokens < 1.0 else now
