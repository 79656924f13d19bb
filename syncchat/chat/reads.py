"""Steps of a room for those who only read, and need not wait for a commit."""

from __future__ import annotations

import threading
from collections.abc import Callable

import msgspec

__all__ = ["Read", "Reads", "Step", "guarded"]

#: An item of a room's queue: a function, called in its place in the order.
Step = Callable[[], None]


class Read(msgspec.Struct):
    """A step for a reader. It need not wait for messages that are still to be appended."""

    step: Step


class Reads:
    """Lets readers do the combiner's work while the combiner waits for the engine to append."""

    def __init__(self) -> None:
        #: Guards the fields below, and what only the combiner may change, while it appends. The
        #: locks of the engine and of the members are taken under it.
        self._lock = threading.Lock()
        #: Whether the combiner appends, and the number of reads in the queue.
        self._is_appending = False
        self._queued = 0
        #: The thread whose step is called now.
        self.thread: int | None = None

    def begin_append(self) -> None:
        """Let readers in. On the combiner's thread."""
        with self._lock:
            self._is_appending = True

    def end_append(self) -> None:
        """Let no reader in any more, and wait for the present one. On the combiner's thread."""
        with self._lock:
            self._is_appending = False

    def take(self, step: Step) -> bool:
        """Call ``step`` while the combiner appends. False: it must be queued, as a :class:`Read`.

        Reads keep their order.
        """
        with self._lock:
            if not self._is_appending or self._queued:
                self._queued += 1
                return False
            self.thread = threading.get_ident()
            try:
                step()
            finally:
                self.thread = None
            return True

    def note_taken(self) -> None:
        """Note that a queued one is taken. On the combiner's thread."""
        with self._lock:
            self._queued -= 1


def guarded(step: Callable[[], object], failures: list[Exception]) -> Step:
    """``step``, whose exception is added to ``failures``."""

    def call() -> None:
        try:
            step()
        except Exception as exc:  # noqa: BLE001 - raised on the thread that waits for it
            failures.append(exc)

    return call
