"""What a server measures of itself while it works, for whoever asks later."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterable, Sequence

__all__ = ["Histogram", "Metrics"]

#: Upper bounds of what is counted together: messages of a batch; seconds.
_BATCH = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)


class Histogram:
    """How often which values came, as Prometheus counts them. From any thread."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        #: Guards both; no other lock is taken under it.
        self._lock = threading.Lock()
        #: One more than the bounds, for what is above the last.
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, values: Iterable[float]) -> None:
        """Count these values."""
        with self._lock:
            for value in values:
                self._counts[bisect_left(self.bounds, value)] += 1
                self._sum += value

    def snapshot(self) -> tuple[list[int], float]:
        """How many were at most each bound, and of any value; and the sum of all."""
        with self._lock:
            counts, total = list(self._counts), self._sum
        for at in range(1, len(counts)):
            counts[at] += counts[at - 1]
        return counts, total


class Metrics:
    """One for each life of a chat server."""

    def __init__(self) -> None:
        #: Messages that went to the engine as one batch.
        self.batch = Histogram(_BATCH)
        #: Seconds from a message's arrival until every member's share was written or queued.
        self.delivery = Histogram(_SECONDS)
        #: Seconds of each transaction of an engine that has some.
        self.commit = Histogram(_SECONDS)
