"""The baton: flat combining with group commit.

Threads that have work for one place do not fight for it. Each leaves its items
in a queue; whoever finds the baton free takes it and does everybody's work, a
batch at a time. The busier the threads, the larger the batches, and the less a
single item costs. (Hendler, Incze, Shavit, Tzafrir: "Flat combining and the
synchronization-parallelism tradeoff", SPAA 2010. A batch that is made durable
as one is what databases call group commit.)
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

__all__ = ["Combiner"]

Item = TypeVar("Item")

#: Seconds after which the holder hands the baton to the next thread that comes
#: with work, so that it gets back to its own client.
_SHIFT = 0.05


class Combiner(Generic[Item]):
    """A queue of items, and the baton that lets one thread at a time work it off.

    ``apply(batch, first)`` gets every item once, in the order of ``submit``, on
    the thread of some submitter; never two batches at a time. ``first`` is the
    position of the batch's first item among all items. It must not block:
    others wait for it. While more than ``max_weight`` waits in the queue (in
    the unit of ``submit``'s ``weight``), ``submit`` blocks, which to a network
    client is TCP backpressure.
    """

    def __init__(self, apply: Callable[[list[Item], int], None], *, max_weight: int) -> None:
        self._apply = apply
        self._max_weight = max_weight
        #: Guards everything below. No other lock is taken under it.
        self._lock = threading.Lock()
        self._queue: list[Item] = []
        self._weight = 0
        #: How many items have been handed in, and how many of them applied.
        self._submitted = 0
        self._applied = 0
        #: The thread that holds the baton, and until when it may keep it.
        self._holder: int | None = None
        self._until = 0.0
        #: A thread waits to take over the baton.
        self._relief = False
        #: The queue was taken, a batch applied, or the baton put down.
        self._moved = threading.Condition(self._lock)

    def submit(self, items: Iterable[Item], weight: int) -> None:
        """Have ``items`` applied, in this order and with no other's in between.

        On return they are applied, or another thread has them in hand. From
        any thread, one that is in ``apply`` included. What ``apply`` raises
        comes out of the ``submit`` whose thread holds the baton.
        """
        me = threading.get_ident()
        # Only this thread makes itself the holder, so this needs no lock.
        nested = self._holder == me
        try:
            if self._hand_in(items, weight, me):
                self._work()
        finally:
            # Whatever comes out of the blue, as KeyboardInterrupt does on the
            # main thread: a baton that nobody puts down stops everybody.
            if self._holder == me and not nested:
                self._put_down(me)

    def offer(self, item: Item) -> None:
        """Have ``item`` applied, without waiting, and without doing others' work.

        For a thread that has its own to do, as the flusher has: one at a time,
        and none that is in ``apply``.
        """
        with self._lock:
            first = self._submitted
            self._submitted += 1
            if self._holder is not None or self._relief:
                self._queue.append(item)
                return
            # The queue is empty. Whoever comes from now on relieves this thread.
            self._holder = threading.get_ident()
            self._until = 0.0
        try:
            self._apply([item], first)
        finally:
            with self._lock:
                self._applied += 1
                self._holder = None
                self._moved.notify_all()

    def _hand_in(self, items: Iterable[Item], weight: int, me: int) -> bool:
        """Queue the items. True: the baton is this thread's now."""
        with self._lock:
            # The holder must not wait for itself.
            while self._weight > self._max_weight and self._holder not in (None, me):
                self._moved.wait()
            before = len(self._queue)
            self._queue.extend(items)
            self._submitted += len(self._queue) - before
            self._weight += weight
            if self._holder is not None:
                if self._holder == me or self._relief or time.monotonic() < self._until:
                    return False
                # The holder has done its share: it leaves after this batch.
                self._relief = True
                try:
                    self._moved.wait_for(lambda: self._holder is None)
                finally:
                    self._relief = False
            self._holder = me
            self._until = time.monotonic() + _SHIFT
            return True

    def _put_down(self, me: int) -> None:
        with self._lock:
            if self._holder == me:
                self._holder = None
                self._moved.notify_all()

    @property
    def position(self) -> int:
        """The position that the next item to be handed in will have."""
        with self._lock:
            return self._submitted

    def settle(self) -> None:
        """Block until all that was handed in so far is applied. From any thread.

        Returns at once on the thread that is in ``apply``.
        """
        me = threading.get_ident()
        with self._lock:
            goal = self._submitted
            # Between two holders, while one relieves the other, nobody is it.
            while (
                self._applied < goal
                and self._holder != me
                and (self._holder is not None or self._relief)
            ):
                self._moved.wait()

    def _work(self) -> None:
        """Apply batches until the queue is empty or another takes over."""
        failure: BaseException | None = None
        batch: list[Item] = []
        while True:
            with self._lock:
                self._applied += len(batch)
                first = self._applied
                batch = self._queue
                if not batch or self._relief:
                    # In the same breath as the look at the queue: an item that
                    # comes later finds the baton free.
                    self._holder = None
                    self._moved.notify_all()
                    break
                self._queue = []
                self._weight = 0
                self._moved.notify_all()
            try:
                self._apply(batch, first)
            except BaseException as exc:  # noqa: BLE001 - raised below
                # The others' items are in the queue; they are not left behind.
                failure = exc
        if failure is not None:
            raise failure
