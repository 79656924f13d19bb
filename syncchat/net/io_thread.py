"""The one thread that finishes stalled writes and enforces deadlines.

A write that the kernel does not take whole is queued by the stream that it
belongs to; the flusher waits until the socket turns writable and lets the
stream go on. Only the flusher's own thread touches its selector: other
threads leave word in ``_requests`` and wake it.
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
from typing import Protocol

from .deadline import Deadline

__all__ = ["Flushable", "IOThread"]

logger = logging.getLogger("syncchat.net")


class Flushable(Protocol):
    """What the flusher can look after: :class:`Stream`, or a server's console."""

    def fileno(self) -> int:
        """The descriptor that is watched; open until ``release`` has agreed."""

    def flush(self) -> bool:
        """Write what the kernel takes, without blocking. True: nothing is left."""

    def release(self) -> bool:
        """No longer watched. False: something was queued meanwhile, watch it again."""

    def abandon(self) -> None:
        """No longer watched, and never again: the flusher ends. Drop what is queued."""


class IOThread:
    """The thread that finishes what others began, and its requests.

    The thread starts with :meth:`start` or with the first request, and ends
    with :meth:`stop`, which whoever made the flusher calls. Every method may
    be called from any thread.
    """

    def __init__(self, name: str = "syncchat-io") -> None:
        self._name = name
        #: Guards everything below. Last in the lock order: whoever holds it
        #: takes no other lock.
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopped = False
        self._requests: deque[Flushable] = deque()
        #: A heap: the moment, a ticket that settles a draw, what to call.
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._ticket = itertools.count()
        self._waker: socket.socket | None = None

    def start(self) -> None:
        """Start the thread, unless it runs or has been stopped.

        Raises :class:`OSError` or :class:`RuntimeError` where the system has
        no descriptors or threads left. So does the first request.
        """
        with self._lock:
            self._start_locked()

    def watch(self, flushable: Flushable) -> bool:
        """Call ``flushable.flush()`` whenever it is writable, until it says done.

        Returns False when the flusher has been stopped: nothing will happen.
        """
        with self._lock:
            if not self._start_locked():
                return False
            self._requests.append(flushable)
            self._wake_locked()
            return True

    def call_at(self, deadline: Deadline, callback: Callable[[], None]) -> None:
        """Run ``callback`` at ``deadline`` on the flusher's thread.

        The callback must not block. A stopped flusher runs nothing.
        """
        with self._lock:
            if self._start_locked():
                timer = (deadline.at, next(self._ticket), callback)
                heapq.heappush(self._timers, timer)
                if self._timers[0] is timer:
                    self._wake_locked()

    def stop(self) -> None:
        """End the thread and join it, except where it is the caller.

        What is still being watched is abandoned.
        """
        with self._lock:
            self._stopped = True
            thread, self._thread = self._thread, None
            if thread is not None:
                self._wake_locked()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _start_locked(self) -> bool:
        if self._stopped:
            return False
        if self._thread is None:
            # All that can fail, fails here and not on the thread.
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
        if self._waker is not None:
            # A full pipe means that a wake-up is on its way already.
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
        # The selector is closed by now, so that they may close their descriptors.
        for flushable in itertools.chain(watched, requests):
            flushable.abandon()

    def _due_locked(self) -> tuple[list[Callable[[], None]], float | None]:
        """What is to be called now, and the seconds until the next moment."""
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
            logger.exception("flusher: %r failed", flushable)
        if done:
            # First out of the selector, then released: release may close
            # the descriptor, and its number may be another's at once.
            selector.unregister(flushable)
            if not flushable.release():
                selector.register(flushable, selectors.EVENT_WRITE, flushable)

    @staticmethod
    def _guarded(callback: Callable[[], None]) -> None:
        """A callback that fails must not take everybody's flusher with it."""
        try:
            callback()
        except Exception:
            logger.exception("flusher: %r failed", callback)
