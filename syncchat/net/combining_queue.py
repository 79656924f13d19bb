"""Flat combining with group commit: one thread applies the items of all threads in batches.

Threads that share a resource do not compete for its lock. Each thread appends
its items to a queue. A thread that finds no combiner becomes the combiner: it
applies everything in the queue, batch by batch, for all threads. The busier the
threads, the larger the batches, and the less a single item costs. (Hendler,
Incze, Shavit, Tzafrir: "Flat combining and the synchronization-parallelism
tradeoff", SPAA 2010. Databases call a batch that is made durable as one a group
commit.)
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

__all__ = ["CombiningQueue"]

Item = TypeVar("Item")

#: Seconds after which the combiner hands its role to the next thread that
#: submits, so that it gets back to its own client.
_SHIFT = 0.05


class _Waiter(Generic[Item]):
    """A thread that waits. Another thread wakes it exactly once.

    Each waiter sleeps on a separate lock. One condition for all of them would
    wake every waiter for every batch: if 10,000 threads leave at the same time,
    that is 10,000 wake-ups per batch.
    """

    __slots__ = ("goal", "items", "thread", "wakeup", "weight")

    def __init__(self, thread: int, items: list[Item], weight: int, goal: int) -> None:
        self.thread = thread
        #: The items that the thread submits, and their weight.
        self.items = items
        self.weight = weight
        #: The position up to which everything must be applied.
        self.goal = goal
        self.wakeup = threading.Lock()
        self.wakeup.acquire()


class CombiningQueue(Generic[Item]):
    """A queue of items that one thread at a time applies in batches.

    ``apply(batch, first)`` gets every item once, in the order of ``submit``, on
    the thread of some submitter; never two batches at a time. ``first`` is the
    position of the batch's first item among all items. ``apply`` must not block,
    because other threads wait for it. While items of more than ``max_weight`` are
    queued (in the unit of ``submit``'s ``weight``), ``submit`` blocks. For a
    network client this is TCP backpressure.
    """

    def __init__(self, apply: Callable[[list[Item], int], None], *, max_weight: int) -> None:
        self._apply = apply
        self._max_weight = max_weight
        #: Guards everything below. No other lock is taken under it; a waiter's lock
        #: is only released.
        self._lock = threading.Lock()
        self._queue: list[Item] = []
        self._weight = 0
        #: How many items have been queued, and how many of them have been applied.
        self._submitted = 0
        self._applied = 0
        #: The combiner's thread, if there is one, and the moment until which it
        #: keeps its role.
        self._holder: int | None = None
        self._until = 0.0
        #: The thread that takes over from the combiner after the present batch.
        self._relief: _Waiter[Item] | None = None
        #: Threads whose items do not fit into the queue, in the order of arrival.
        self._blocked: deque[_Waiter[Item]] = deque()
        #: Threads in drain(). Their goals never decrease from left to right.
        self._draining: deque[_Waiter[Item]] = deque()

    def submit(self, items: Iterable[Item], weight: int) -> None:
        """Have ``items`` applied in this order, with no other thread's items in between.

        On return they are applied, or another thread will apply them. From any
        thread, also from within ``apply``. If ``apply`` raises an exception, the
        combiner's ``submit`` raises it.
        """
        items = list(items)
        me = threading.get_ident()
        waiter: _Waiter[Item] | None = None
        # Only this thread makes itself the combiner, so this needs no lock.
        nested = self._holder == me
        try:
            with self._lock:
                # This repeats _appoint_locked() and _enqueue_locked() to save two calls: each
                # message passes here.
                if self._holder is None:
                    self._holder, self._until = me, time.monotonic() + _SHIFT
                elif not nested:
                    # The combiner must not wait for itself.
                    waiter = self._waiter_locked(items, weight, me)
                if waiter is None or waiter is self._relief:
                    self._queue += items
                    self._submitted += len(items)
                    self._weight += weight
            if waiter is not None:
                self._sleep(waiter, self._blocked)
            if self._holder == me and not nested:
                self._work()
        finally:
            # An exception such as KeyboardInterrupt can occur at any line above. A
            # combiner that does not give up its role would stop all threads.
            if self._holder == me and not nested:
                self._resign(me)

    def add(self, items: Sequence[Item], weight: int) -> bool:
        """Queue ``items`` for the next :meth:`combine`, which the caller must call soon.

        For a thread that collects the items of several clients. Never blocks. False: the
        queue is full, and nothing is queued.
        """
        with self._lock:
            if self._weight > self._max_weight or self._blocked:
                return False
            # This repeats _enqueue_locked(), as in submit().
            self._queue += items
            self._submitted += len(items)
            self._weight += weight
            return True

    def combine(self) -> None:
        """Have applied what :meth:`add` has queued. Not within ``apply``.

        Works as :meth:`submit`, but never waits until the queue has space.
        """
        me = threading.get_ident()
        waiter: _Waiter[Item] | None = None
        with self._lock:
            if not self._queue:
                return
            if self._holder is None:
                # This repeats _appoint_locked(), as in submit().
                self._holder = me
                self._until = time.monotonic() + _SHIFT
            elif self._relief is None and time.monotonic() >= self._until:
                # The combiner may be in offer(), which applies nothing else.
                waiter = self._relief = _Waiter(me, [], 0, 0)
            else:
                return
        try:
            if waiter is not None:
                self._sleep(waiter, self._blocked)
            self._work()
        finally:
            self._resign(me)

    def begin(self) -> list[Item]:
        """Become the combiner, and return the batch, to be applied before :meth:`end`.

        For a thread that applies the batches of several queues together. Not within
        ``apply``. Empty: nothing is queued, or the combiner is about to apply it.
        """
        me = threading.get_ident()
        waiter: _Waiter[Item] | None = None
        with self._lock:
            if not self._queue:
                return []
            if self._holder is None:
                self._appoint_locked(me)
            elif self._relief is None:
                # At once: the combiner would apply one by one what this thread applies together.
                waiter = self._relief = _Waiter(me, [], 0, 0)
            else:
                return []
        if waiter is not None:
            self._sleep(waiter, self._blocked)
        with self._lock:
            batch, self._queue, self._weight = self._queue, [], 0
            if batch:
                self._admit_locked()
            else:
                # The combiner before has applied everything.
                self._pass_on_locked()
            return batch

    def end(self, count: int) -> bool:
        """Give up the role after ``count`` items, those of :meth:`begin`.

        True: more is queued, and the caller must call :meth:`begin` again soon.
        """
        with self._lock:
            self._applied += count
            self._wake_drained_locked()
            return not self._pass_on_locked() and bool(self._queue)

    def offer(self, item: Item, weight: int = 0) -> bool:
        """Have ``item`` applied without waiting and without applying other threads' items.

        For a thread with other duties, such as the I/O thread. Not from within ``apply``. False:
        the queue is full, and nothing is queued. An item without a weight is always taken.
        """
        with self._lock:
            if weight and (self._weight > self._max_weight or self._blocked):
                return False
            first = self._submitted
            self._submitted += 1
            if self._holder is not None or self._queue:
                self._queue.append(item)
                self._weight += weight
                return True
            # The next thread that submits takes over.
            self._holder = threading.get_ident()
            self._until = 0.0
        try:
            self._apply([item], first)
        finally:
            with self._lock:
                self._applied += 1
                self._wake_drained_locked()
                passed_on = self._pass_on_locked()
                # ``apply`` may have submitted further items.
                left = bool(self._queue) and not passed_on
        if left:
            self.combine()
        return True

    @property
    def position(self) -> int:
        """The position that the next submitted item will have."""
        with self._lock:
            return self._submitted

    def drain(self) -> None:
        """Block until everything submitted so far is applied. From any thread.

        Returns at once on the thread that is in ``apply``.
        """
        me = threading.get_ident()
        with self._lock:
            goal = self._submitted
        # Once more if this thread became the combiner, and was relieved at once.
        while self._applied < goal and self._holder != me:
            waiter: _Waiter[Item] | None = None
            with self._lock:
                if self._applied >= goal:
                    return
                if self._holder is None:
                    if not self._queue:
                        # An asynchronous exception has ended a batch.
                        return
                    # Between add() and combine(), or after an asynchronous exception.
                    self._appoint_locked(me)
                else:
                    waiter = _Waiter(me, [], 0, self._submitted)
                    self._draining.append(waiter)
            try:
                if waiter is not None:
                    self._sleep(waiter, self._draining)
                if self._holder == me:
                    self._work()
            finally:
                if self._holder == me:
                    self._resign(me)

    # Before and after the work.

    def _waiter_locked(self, items: list[Item], weight: int, me: int) -> _Waiter[Item] | None:
        """Make this thread wait: as the combiner's relief, or because the queue is full.

        None: it need not wait.
        """
        assert self._lock.locked()
        relieves = self._relief is None and time.monotonic() >= self._until
        if not relieves and self._weight <= self._max_weight and not self._blocked:
            return None
        waiter = _Waiter(me, items, weight, 0)
        if relieves:
            self._relief = waiter
        else:
            self._blocked.append(waiter)
        return waiter

    def _sleep(self, waiter: _Waiter[Item], line: deque[_Waiter[Item]]) -> None:
        """Wait until another thread wakes ``waiter``, which is the relief or is in ``line``."""
        try:
            waiter.wakeup.acquire()
        except BaseException:
            # This thread is interrupted: no other thread may wake it later, or hand
            # the combiner's role to it.
            with self._lock:
                if self._relief is waiter:
                    self._relief = None
                elif waiter in line:
                    line.remove(waiter)
            raise

    def _enqueue_locked(self, items: list[Item], weight: int) -> None:
        assert self._lock.locked()
        self._queue += items
        self._submitted += len(items)
        self._weight += weight

    def _appoint_locked(self, thread: int) -> None:
        assert self._lock.locked()
        self._holder = thread
        self._until = time.monotonic() + _SHIFT

    def _resign(self, me: int) -> None:
        with self._lock:
            if self._holder == me:
                self._pass_on_locked()

    def _pass_on_locked(self) -> bool:
        """Hand the combiner's role to a waiting thread. False: there is none.

        While there is no combiner, no thread waits, and nothing is queued except between
        add() and combine() or begin(), between end() and begin(), or after an asynchronous
        exception.
        """
        assert self._lock.locked()
        self._holder = None
        if self._relief is not None:
            successor, self._relief = self._relief, None
        elif self._blocked:
            successor = self._blocked.popleft()
            self._enqueue_locked(successor.items, successor.weight)
        elif self._draining:
            successor = self._draining.popleft()
        else:
            return False
        self._appoint_locked(successor.thread)
        successor.wakeup.release()
        return True

    # The combiner's work.

    def _work(self) -> None:
        """Apply batches until the queue is empty or another thread takes over."""
        failure: BaseException | None = None
        batch: list[Item] = []
        while True:
            with self._lock:
                self._applied += len(batch)
                if self._draining:
                    self._wake_drained_locked()
                first = self._applied
                batch = self._queue
                if not batch or self._relief is not None:
                    # Under the same lock as the check of the queue: a thread that
                    # submits later finds no combiner, and becomes the combiner.
                    self._pass_on_locked()
                    break
                self._queue = []
                self._weight = 0
                if self._blocked:
                    self._admit_locked()
            try:
                self._apply(batch, first)
            except BaseException as exc:  # noqa: BLE001 - raised below
                # The other threads' items are in the queue, and are still applied.
                failure = exc
        if failure is not None:
            raise failure

    def _admit_locked(self) -> None:
        """Queue the items of blocked threads for the next batch, as many as fit."""
        assert self._lock.locked()
        while self._blocked and self._weight <= self._max_weight:
            waiter = self._blocked.popleft()
            self._enqueue_locked(waiter.items, waiter.weight)
            waiter.wakeup.release()

    def _wake_drained_locked(self) -> None:
        assert self._lock.locked()
        while self._draining and self._draining[0].goal <= self._applied:
            self._draining.popleft().wakeup.release()
