"""Deadlines, and the thread that finishes incomplete writes and runs timers.

A stream queues the data that the kernel does not accept at once. The I/O thread
waits until the socket is writable, and then lets the stream continue. Only the
I/O thread uses its selector: other threads append their requests to
``_requests`` and wake it.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import logging
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Protocol

__all__ = ["Deadline", "Flushable", "IOThread", "StoppableDeadline", "wait_ready"]

logger = logging.getLogger("syncchat.net")

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
        """Seconds left, from 0 to :data:`threading.TIMEOUT_MAX`; ``None`` without a limit."""
        if self.at == inf:
            return None
        # Locks and joins raise OverflowError for more seconds, which are centuries.
        return min(max(0.0, self.at - time.monotonic()), threading.TIMEOUT_MAX)

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


class Flushable(Protocol):
    """An object that the I/O thread can watch, such as a :class:`Writer`."""

    def fileno(self) -> int:
        """The descriptor to watch. It stays open until ``release`` returns True."""

    def flush(self) -> bool:
        """Write what the kernel accepts, without blocking. True: nothing is left."""

    def release(self) -> bool:
        """The I/O thread stops watching. False: data was queued meanwhile, watch again."""

    def abandon(self) -> None:
        """The I/O thread ends, and never watches again. Drop all queued data."""


class IOThread:
    """The I/O thread and the requests to it.

    The thread starts with :meth:`start` or with the first request, and ends
    with :meth:`stop`, which the creator of the object must call. Every method may
    be called from any thread.
    """

    def __init__(self, name: str = "syncchat-io") -> None:
        self._name = name
        #: Guards everything below. Last in the lock order: no other lock is taken
        #: under it.
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopped = False
        self._requests: deque[Flushable] = deque()
        #: A heap of moment, ticket and callback. The ticket orders equal moments.
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._ticket = itertools.count()
        self._waker: socket.socket | None = None

    def start(self) -> None:
        """Start the thread, unless it runs or has been stopped.

        Raises :class:`OSError` or :class:`RuntimeError` if the system has no
        descriptors or threads left. The first request may raise them, too.
        """
        with self._lock:
            self._start_locked()

    def watch(self, flushable: Flushable) -> bool:
        """Call ``flushable.flush()`` whenever the descriptor is writable, until it returns True.

        Returns False, and does nothing, if the I/O thread has been stopped.
        """
        with self._lock:
            if not self._start_locked():
                return False
            self._requests.append(flushable)
            self._wake_locked()
            return True

    def call_at(self, deadline: Deadline, callback: Callable[[], None]) -> None:
        """Run ``callback`` at ``deadline`` on the I/O thread.

        The callback must not block. A stopped I/O thread runs no callbacks.
        """
        with self._lock:
            if self._start_locked():
                timer = (deadline.at, next(self._ticket), callback)
                heapq.heappush(self._timers, timer)
                if self._timers[0] is timer:
                    self._wake_locked()

    def stop(self) -> None:
        """End the I/O thread, and join it unless it is the caller.

        Objects that it still watches are abandoned.
        """
        with self._lock:
            self._stopped = True
            thread, self._thread = self._thread, None
            if thread is not None:
                self._wake_locked()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _start_locked(self) -> bool:
        assert self._lock.locked()
        if self._stopped:
            return False
        if self._thread is None:
            # Create everything here, so that the caller gets every error.
            with contextlib.ExitStack() as undo:
                receiver, waker = map(undo.enter_context, socket.socketpair())
                receiver.setblocking(False)
                waker.setblocking(False)
                selector = undo.enter_context(selectors.DefaultSelector())
                selector.register(receiver, selectors.EVENT_READ)
                thread = threading.Thread(
                    target=self._run, args=(selector, receiver, waker), name=self._name, daemon=True
                )
                thread.start()
                undo.pop_all()
            self._waker, self._thread = waker, thread
        return True

    def _wake_locked(self) -> None:
        assert self._lock.locked()
        if self._waker is not None:
            # A full buffer means that a wake-up is pending already.
            with contextlib.suppress(OSError):
                self._waker.send(b"\0")

    def _run(
        self, selector: selectors.BaseSelector, receiver: socket.socket, waker: socket.socket
    ) -> None:
        with receiver, waker, selector:
            while True:
                with self._lock:
                    if self._stopped:
                        self._waker = None
                        requests = list(self._requests)
                        self._requests.clear()
                        self._timers.clear()
                        break
                    requests = list(self._requests)
                    self._requests.clear()
                    due, timeout = self._due_locked()
                for flushable in requests:
                    selector.register(flushable, selectors.EVENT_WRITE, flushable)
                for callback in due:
                    self._guarded(callback)
                for key, _ in selector.select(0 if due else timeout):
                    if key.data is None:
                        with contextlib.suppress(BlockingIOError):
                            receiver.recv(4096)
                    else:
                        self._flush(selector, key.data)
            selector.unregister(receiver)
            watched: list[Flushable] = [key.data for key in selector.get_map().values()]
        # The selector is closed now, so the objects may close their descriptors.
        for flushable in itertools.chain(watched, requests):
            flushable.abandon()

    def _due_locked(self) -> tuple[list[Callable[[], None]], float | None]:
        """The callbacks that are due, and the seconds until the next timer, if there is one."""
        assert self._lock.locked()
        due: list[Callable[[], None]] = []
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            due.append(heapq.heappop(self._timers)[2])
        return due, (Deadline(self._timers[0][0]).for_poll() if self._timers else None)

    def _flush(self, selector: selectors.BaseSelector, flushable: Flushable) -> None:
        done = True
        try:
            done = flushable.flush()
        except Exception:
            logger.exception("I/O thread: %r failed", flushable)
        if done:
            # Unregister before release(): it may close the descriptor, and another
            # socket may get the same number at once.
            selector.unregister(flushable)
            if not flushable.release():
                selector.register(flushable, selectors.EVENT_WRITE, flushable)

    @staticmethod
    def _guarded(callback: Callable[[], None]) -> None:
        """Run ``callback``. An exception of it must not end the I/O thread."""
        try:
            callback()
        except Exception:
            logger.exception("I/O thread: %r failed", callback)
