"""Calls of the main thread, carried out where no ``KeyboardInterrupt`` ends them half done.

Python raises ``KeyboardInterrupt`` on the main thread only, and there between any two steps: also
while the thread does the work of others, or holds what is to be sent in its hands.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

__all__ = ["Uninterrupted"]

Result = TypeVar("Result")

#: Seconds without a call after which the thread ends. The next call starts another one.
_IDLE = 1.0


class _Call:
    """A call, and the lock on which the main thread waits for its end."""

    __slots__ = ("done", "failure", "function", "result")

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function
        self.result: Any = None
        self.failure: BaseException | None = None
        self.done = threading.Lock()
        self.done.acquire()

    def run(self) -> None:
        try:
            self.result = self.function()
        except BaseException as exc:  # noqa: BLE001 - raised on the main thread
            self.failure = exc
        self.done.release()


class Uninterrupted:
    """Carries out calls of the main thread on the thread ``name``, which ends when it is idle."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        #: Held by the thread that works. An interrupt can leave a second one, which ends at once.
        self._role = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = True

    def open(self) -> None:
        """Carry out calls on the thread, from now until :meth:`close`."""
        self._closed = False

    def run(self, function: Callable[[], Result]) -> Result:
        """Call ``function``, and return its result or raise its exception. From any thread.

        If ``KeyboardInterrupt`` ends the wait, the call goes on, or is made later, or never.
        Threads other than the main thread call ``function`` themselves, and so does the
        main thread while this is closed.
        """
        if self._closed or threading.current_thread() is not threading.main_thread():
            return function()
        call = _Call(function)
        self._calls.put(call)
        if not self._role.locked():
            threading.Thread(target=self._work, name=self._name, daemon=True).start()
        call.done.acquire()
        if call.failure is not None:
            raise call.failure
        result: Result = call.result
        return result

    def close(self) -> None:
        """End the thread after the calls that have begun, and wait for it. From any thread."""
        self._closed = True
        if self._role.locked():
            self._calls.put(None)
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _work(self) -> None:
        while self._role.acquire(blocking=False):
            self._thread = threading.current_thread()
            try:
                while not (self._closed and self._calls.empty()):
                    call = self._calls.get(timeout=_IDLE)
                    if call is not None:  # None wakes the thread.
                        call.run()
            except Empty:
                pass
            finally:
                self._role.release()
            if self._calls.empty():
                return
