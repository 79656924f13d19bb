"""Work that threads share: one leads, and does at once what all that wait need.

The first thread that comes leads: it takes every request that waits, does the work for all of
them together, and wakes their threads. Those that have come meanwhile get a leader of their own.
A lone thread leads itself, and waits for nobody. (Databases call it group commit.)
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

__all__ = ["LeaderQueue", "Request"]

#: The longest pause before a batch, in seconds.
_LONGEST_PAUSE = 0.05


class Request:
    """What one thread needs. The leader sets ``done``."""

    __slots__ = ("done", "leads", "wakeup")

    def __init__(self) -> None:
        self.done = False
        #: Whether its thread leads, or is about to.
        self.leads = False
        #: The thread sleeps on it until its request is done, or it is to lead.
        self.wakeup = threading.Lock()
        self.wakeup.acquire()


Wanted = TypeVar("Wanted", bound=Request)


class LeaderQueue(Generic[Wanted]):
    """``work`` gets all requests that wait, in the order of their arrival, and sets ``done``.

    It is called on the thread of one of them, for one batch at a time. If it raises an
    exception, the leader's :meth:`run` does, and the other requests are left as they are.

    ``pause``: for this share of the time that a batch of several requests took, the next leader
    waits after it until as many have come. The threads of the batch are about to come again, and
    need not wait for two batches then.
    """

    def __init__(self, work: Callable[[Sequence[Wanted]], None], *, pause: float = 0.0) -> None:
        self._work = work
        self._pause = pause
        #: Guards the fields below. No other lock is taken under it; a request's ``wakeup`` is
        #: only released.
        self._lock = threading.Lock()
        self._waiting: list[Wanted] = []
        self._is_led = False
        #: The leader that pauses, and the number of requests that end its pause.
        self._pausing: Wanted | None = None
        self._awaited = 0
        #: When the present pause ends, on the monotonic clock. Only the leader uses it.
        self._paused_until = 0.0

    def run(self, request: Wanted) -> None:
        """Have the work for ``request`` done, with that of others. From any thread."""
        try:
            with self._lock:
                self._waiting.append(request)
                if not self._is_led:
                    self._is_led = request.leads = True
                elif self._pausing is not None and len(self._waiting) >= self._awaited:
                    self._pausing.wakeup.release()
                    self._pausing = None
            if not request.leads:
                request.wakeup.acquire()
            if request.leads:
                self._lead(request)
        finally:
            # Also after an exception such as KeyboardInterrupt, at any line above: nobody may
            # wait for this thread to lead.
            if request.leads or not request.done:
                self._withdraw(request)

    def _lead(self, own: Wanted) -> None:
        begin = time.monotonic()
        if begin < self._paused_until:
            self._await_others(own, self._paused_until - begin)
            begin = time.monotonic()
        with self._lock:
            self._pausing = None
            batch, self._waiting = self._waiting, []
            self._awaited = len(batch)
        try:
            self._work(batch)
        finally:
            if len(batch) > 1:
                end = time.monotonic()
                self._paused_until = end + min((end - begin) * self._pause, _LONGEST_PAUSE)
            # First the next leader: its work need not wait for these threads.
            self._withdraw(own)
            for request in batch:
                if request is not own:
                    request.wakeup.release()

    def _await_others(self, own: Wanted, seconds: float) -> None:
        with self._lock:
            if len(self._waiting) >= self._awaited:
                return
            self._pausing = own
        own.wakeup.acquire(timeout=seconds)

    def _withdraw(self, request: Wanted) -> None:
        """Wait no more, and hand on the lead if this thread has it."""
        with self._lock:
            if request in self._waiting:
                self._waiting.remove(request)
            if request.leads:
                request.leads = False
                self._is_led = bool(self._waiting)
                if self._is_led:
                    self._waiting[0].leads = True
                    self._waiting[0].wakeup.release()
