"""The combining queue: every item once, in order, in batches, by one thread at a time."""

from __future__ import annotations

import signal
import threading
import time
from queue import SimpleQueue

import pytest

from syncchat.net import CombiningQueue
from tests.peer import PATIENCE, InThread, wait_for


def test_a_lone_thread_applies_its_own_items_at_once() -> None:
    applied: list[tuple[list[int], int]] = []
    combiner: CombiningQueue[int] = CombiningQueue(
        lambda *batch: applied.append(batch), max_weight=10
    )
    assert combiner.position == 0
    combiner.submit([1, 2], 2)
    combiner.submit([3], 1)
    assert applied == [([1, 2], 0), ([3], 2)]
    assert combiner.position == 3


def test_items_of_many_threads_are_applied_once_each_in_order_by_one_thread_at_a_time() -> None:
    applied: list[tuple[int, int]] = []
    inside = threading.Lock()

    def apply(batch: list[tuple[int, int]], first: int) -> None:
        assert inside.acquire(blocking=False), "two threads at a time"
        applied.extend(batch)
        inside.release()

    combiner = CombiningQueue(apply, max_weight=20)

    def submit(thread: int) -> None:
        for number in range(0, 3000, 3):
            combiner.submit([(thread, number + i) for i in range(3)], 3)

    threads = [threading.Thread(target=submit, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(applied) == 8 * 3000
    for n in range(8):
        assert [number for thread, number in applied if thread == n] == list(range(3000))
    triples = [applied[i : i + 3] for i in range(0, len(applied), 3)]
    assert all(len({thread for thread, _ in triple}) == 1 for triple in triples)


def test_items_added_during_a_batch_become_the_next_batch() -> None:
    applied: list[list[int]] = []
    entered, go_on = threading.Event(), threading.Event()

    def apply(batch: list[int], first: int) -> None:
        applied.append(batch)
        entered.set()
        go_on.wait(PATIENCE)

    combiner = CombiningQueue(apply, max_weight=100)
    holder = threading.Thread(target=combiner.submit, args=([1], 1))
    holder.start()
    assert entered.wait(PATIENCE)
    for number in range(2, 6):
        combiner.submit([number], 1)  # Returns: the holder has it in hand.
    go_on.set()
    holder.join(PATIENCE)
    assert applied == [[1], [2, 3, 4, 5]]


def test_a_full_queue_makes_publishers_wait_until_it_is_taken() -> None:
    applied: list[int] = []
    entered, go_on = threading.Event(), threading.Event()

    def apply(batch: list[int], first: int) -> None:
        entered.set()
        go_on.wait(PATIENCE)
        applied.extend(batch)

    combiner = CombiningQueue(apply, max_weight=2)
    holder = threading.Thread(target=combiner.submit, args=([1], 1))
    holder.start()
    assert entered.wait(PATIENCE)
    combiner.submit([2], 3)
    waiting = threading.Thread(target=combiner.submit, args=([3], 1))
    waiting.start()
    waiting.join(0.1)
    assert waiting.is_alive()
    go_on.set()
    waiting.join(PATIENCE)
    holder.join(PATIENCE)
    assert applied == [1, 2, 3]


def test_a_combiner_is_relieved_after_its_time() -> None:
    names: list[str] = []
    entered = threading.Event()
    stop = threading.Event()
    helper_is_in = threading.Event()

    def apply(batch: list[int], first: int) -> None:
        names.append(threading.current_thread().name)
        entered.set()
        if threading.current_thread().name == "first" and not stop.is_set():
            # Endless work: the combiner adds items itself.
            combiner.submit([0], 0)
            helper_is_in.wait(0.001)

    combiner = CombiningQueue(apply, max_weight=100)
    first = threading.Thread(target=combiner.submit, args=([1], 1), name="first")
    first.start()
    assert entered.wait(PATIENCE)

    def relieve() -> None:
        while "second" not in names:
            combiner.submit([2], 1)

    second = threading.Thread(target=relieve, name="second")
    second.start()
    wait_for(lambda: "second" in names)
    stop.set()
    second.join(PATIENCE)
    first.join(PATIENCE)
    assert not first.is_alive()
    assert not second.is_alive()


def test_a_failure_reaches_the_combiner_and_loses_no_items() -> None:
    applied: list[int] = []
    entered, go_on = threading.Event(), threading.Event()

    def apply(batch: list[int], first: int) -> None:
        if 1 in batch:
            entered.set()
            go_on.wait(PATIENCE)
            raise LookupError("one")
        applied.extend(batch)

    combiner = CombiningQueue(apply, max_weight=100)
    caught: list[LookupError] = []

    def hold() -> None:
        try:
            combiner.submit([1], 1)
        except LookupError as exc:
            caught.append(exc)

    holder = threading.Thread(target=hold)
    holder.start()
    assert entered.wait(PATIENCE)
    combiner.submit([2], 1)
    go_on.set()
    holder.join(PATIENCE)
    assert len(caught) == 1
    assert applied == [2]
    with pytest.raises(LookupError):
        combiner.submit([1], 1)
    combiner.submit([3], 1)
    assert applied == [2, 3]


def test_draining_waits_for_the_batch_of_another_thread() -> None:
    applied: list[int] = []
    entered, go_on = threading.Event(), threading.Event()

    def apply(batch: list[int], first: int) -> None:
        combiner.drain()  # The holder itself does not wait.
        entered.set()
        go_on.wait(PATIENCE)
        applied.extend(batch)

    combiner = CombiningQueue(apply, max_weight=100)
    combiner.drain()
    holder = threading.Thread(target=combiner.submit, args=([1], 1))
    holder.start()
    assert entered.wait(PATIENCE)
    combiner.submit([2], 1)
    settling = threading.Thread(target=combiner.drain)
    settling.start()
    settling.join(0.05)
    assert settling.is_alive()
    go_on.set()
    settling.join(PATIENCE)
    assert applied == [1, 2]
    holder.join(PATIENCE)


def test_draining_waits_while_combiners_change() -> None:
    applied = 0

    def apply(batch: list[int], first: int) -> None:
        nonlocal applied
        applied += len(batch)

    combiner: CombiningQueue[int] = CombiningQueue(apply, max_weight=1 << 30)
    done = threading.Event()
    early: list[tuple[int, int]] = []

    def busy() -> None:
        while not done.is_set():
            combiner.submit([0], 1)

    def drain() -> None:
        for _ in range(3000):
            goal = combiner.position
            combiner.drain()
            if applied < goal:
                early.append((applied, goal))
        done.set()

    threads = [threading.Thread(target=busy) for _ in range(3)]
    threads.append(threading.Thread(target=drain))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE * 3)
    assert not early


def test_an_interrupt_on_the_main_thread_blocks_no_other_thread() -> None:
    applied: list[int] = []
    combiner: CombiningQueue[int] = CombiningQueue(
        lambda batch, _: applied.extend(batch), max_weight=100
    )
    me = threading.get_ident()
    # One interrupt for each True, so that none comes outside of the "with" block.
    awaited: SimpleQueue[bool] = SimpleQueue()

    def interrupt() -> None:
        while awaited.get():
            time.sleep(0.01)
            signal.pthread_kill(me, signal.SIGINT)

    interrupting = threading.Thread(target=interrupt)
    interrupting.start()
    for _ in range(50):
        with pytest.raises(KeyboardInterrupt):
            awaited.put(True)
            while True:
                combiner.submit([1], 1)
    awaited.put(False)
    interrupting.join(PATIENCE)
    other = threading.Thread(target=combiner.submit, args=([7], 1))
    other.start()
    other.join(PATIENCE)
    assert not other.is_alive()
    combiner.drain()
    assert applied[-1] == 7


def test_an_offer_is_applied_at_once_without_a_combiner() -> None:
    applied: list[list[int]] = []
    combiner: CombiningQueue[int] = CombiningQueue(
        lambda batch, _first: applied.append(batch), max_weight=100
    )
    combiner.offer(1)
    combiner.submit([2], 1)
    combiner.offer(3)
    assert applied == [[1], [2], [3]]
    assert combiner.position == 3


def test_an_offer_neither_waits_nor_combines() -> None:
    applied: list[tuple[str, int]] = []
    entered, release = threading.Event(), threading.Event()

    def apply(batch: list[int], first: int) -> None:
        assert first == len(applied)
        applied.extend((threading.current_thread().name, item) for item in batch)
        if 1 in batch or 5 in batch:
            entered.set()
            release.wait(PATIENCE)

    combiner: CombiningQueue[int] = CombiningQueue(apply, max_weight=100)
    # Offered while another thread is the combiner, which applies it.
    holder = threading.Thread(target=combiner.submit, args=([1], 1), name="holder")
    holder.start()
    entered.wait(PATIENCE)
    combiner.offer(2)
    release.set()
    holder.join(PATIENCE)
    assert applied == [("holder", 1), ("holder", 2)]
    # Offered without a combiner: a thread that submits meanwhile takes over.
    entered.clear()
    release.clear()
    io_thread = threading.Thread(target=combiner.offer, args=(5,), name="offering")
    io_thread.start()
    entered.wait(PATIENCE)
    others = [
        threading.Thread(target=combiner.submit, args=([item], 1), name="other")
        for item in (6, 7, 8)
    ]
    for other in others:
        other.start()
    wait_for(lambda: combiner.position == 6)
    release.set()
    for thread in (io_thread, *others):
        thread.join(PATIENCE)
    combiner.drain()
    assert applied[2] == ("offering", 5)
    assert [name for name, _ in applied[3:]] == ["other"] * 3
    assert {item for _, item in applied[3:]} == {6, 7, 8}


def test_items_that_are_submitted_while_an_offer_is_applied_are_applied() -> None:
    applied: list[int] = []

    def apply(batch: list[int], _first: int) -> None:
        applied.extend(batch)
        if 1 in batch:
            combiner.submit([2], 1)

    combiner: CombiningQueue[int] = CombiningQueue(apply, max_weight=100)
    combiner.offer(1)
    assert applied == [1, 2]


def test_items_that_are_added_while_an_offer_is_applied_are_applied() -> None:
    applied: list[int] = []
    entered, release = threading.Event(), threading.Event()

    def apply(batch: list[int], _first: int) -> None:
        applied.extend(batch)
        if 1 in batch:
            entered.set()
            release.wait(PATIENCE)

    combiner: CombiningQueue[int] = CombiningQueue(apply, max_weight=100)
    offering = threading.Thread(target=combiner.offer, args=(1,))
    offering.start()
    entered.wait(PATIENCE)
    assert combiner.add([2], 1)
    combining = threading.Thread(target=combiner.combine)
    combining.start()
    release.set()
    for thread in (offering, combining):
        thread.join(PATIENCE)
    assert applied == [1, 2]


def test_a_full_queue_takes_no_added_items() -> None:
    applied: list[int] = []
    combiner: CombiningQueue[int] = CombiningQueue(
        lambda batch, _first: applied.extend(batch), max_weight=10
    )
    assert combiner.add([1], 11)
    assert not combiner.add([2], 1)
    combiner.drain()
    assert combiner.add([3], 1)
    combiner.combine()
    assert applied == [1, 3]


def test_a_batch_may_be_applied_between_begin_and_end() -> None:
    applied: list[list[int]] = []
    queue: CombiningQueue[int] = CombiningQueue(
        lambda batch, _: applied.append(batch), max_weight=10
    )
    assert queue.begin() == []
    assert queue.add([1, 2], 2)
    assert queue.begin() == [1, 2]
    # Others leave their items, and wait for what is under way.
    queue.submit([3], 1)
    draining = InThread(queue.drain)
    assert queue.add([4], 1)
    assert applied == []
    queue.end(2)
    # The thread that waits goes on.
    draining.result()
    assert applied == [[3, 4]]
    assert queue.add([5], 1)
    assert queue.begin() == [5]
    assert queue.add([6], 1)
    assert queue.end(1)
    assert queue.begin() == [6]
    assert not queue.end(1)
    queue.submit([7], 1)
    assert applied == [[3, 4], [7]]


def test_a_thread_that_begins_relieves_the_combiner() -> None:
    entered, go_on = threading.Event(), threading.Event()
    applied: list[int] = []

    def apply(batch: list[int], first: int) -> None:
        applied.extend(batch)
        entered.set()
        go_on.wait(PATIENCE)

    queue = CombiningQueue(apply, max_weight=10)
    submitting = InThread(lambda: queue.submit([1], 1))
    assert entered.wait(PATIENCE)
    assert queue.add([2], 1)

    def begin() -> list[int]:
        batch = queue.begin()
        queue.end(len(batch))
        return batch

    beginning = InThread(begin)
    go_on.set()
    submitting.result()
    # It, or the combiner before it, has applied the item; and nobody keeps the role.
    assert beginning.result() + applied[1:] == [2]
    queue.submit([3], 1)
    assert applied[-1] == 3
