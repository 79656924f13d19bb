"""Waiting for changes of a state that a lock guards, on any thread, and interruptible."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from functools import partial

from ..net import Deadline
from ..uninterrupted import Uninterrupted

__all__ = ["Changes"]


class Changes:
    """The changes of a state that ``lock`` guards. The main thread changes it on thread ``name``.

    A condition would not do: an interrupt that ends its wait may release the lock of another
    thread.
    """

    def __init__(self, lock: threading.Lock, name: str) -> None:
        self._lock = lock
        self._uninterrupted = Uninterrupted(name)
        #: Each is released once, at the next change. Guarded by the lock.
        self._wakeups: list[threading.Lock] = []

    def wait(self, step_locked: Callable[[], bool], deadline: Deadline) -> bool:
        """Call ``step_locked`` until it returns True, first at once, then after each change.

        Returns False at the deadline. An exception such as ``KeyboardInterrupt`` ends the wait,
        but no step.
        """
        while True:
            wakeup = threading.Lock()
            wakeup.acquire()
            if self._uninterrupted.run(partial(self._try, step_locked, wakeup)):
                return True
            if not wakeup.acquire(timeout=deadline.for_lock()):
                with self._lock, contextlib.suppress(ValueError):
                    self._wakeups.remove(wakeup)
                return False

    def notify_locked(self) -> None:
        """Wake all threads that wait."""
        assert self._lock.locked()
        if self._wakeups:
            wakeups, self._wakeups = self._wakeups, []
            for wakeup in wakeups:
                wakeup.release()

    def open(self) -> None:
        """Have the main thread's steps done on the thread, from now until :meth:`close`."""
        self._uninterrupted.open()

    def settle(self) -> None:
        """Wait for the steps of calls that an interrupt has ended. On the main thread."""
        self._uninterrupted.run(lambda: None)

    def close(self) -> None:
        """End the thread, and wait for it."""
        self._uninterrupted.close()

    def _try(self, step_locked: Callable[[], bool], wakeup: threading.Lock) -> bool:
        with self._lock:
            done = step_locked()
            if not done:
                self._wakeups.append(wakeup)
            return done
