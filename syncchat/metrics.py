"""Histograms that a server fills while it runs, for a metrics endpoint."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterable, Sequence

__all__ = ["Histogram", "Metrics"]

#: Upper bounds of the histograms' buckets: messages per batch; seconds.
_BATCH = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)


class Histogram:
    """Counts values by bucket, as Prometheus does. Usable from any thread."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        #: Guards both fields below; no other lock is taken under it.
        self._lock = threading.Lock()
        #: One count per bound, and one for the values above the last bound.
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, values: Iterable[float]) -> None:
        """Count ``values``."""
        with self._lock:
            for value in values:
                self._counts[bisect_left(self.bounds, value)] += 1
                self._sum += value

    def snapshot(self) -> tuple[list[int], float]:
        """The number of values up to each bound and in total, and the sum of all values."""
        with self._lock:
            counts, total = list(self._counts), self._sum
        for at in range(1, len(counts)):
            counts[at] += counts[at - 1]
        return counts, total


class Metrics:
    """The histograms of a chat server, from its start to its stop."""

    def __init__(self) -> None:
        #: Messages that the engine stored in one batch.
        self.batch = Histogram(_BATCH)
        #: Seconds from a message's arrival until it is written or queued for every member.
        self.delivery = Histogram(_SECONDS)
        #: Seconds per transaction, for an engine with transactions.
        self.commit = Histogram(_SECONDS)
