"""Every engine, held to the same promises."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from syncchat.chat import events
from syncchat.engine import (
    Candidate,
    Delivery,
    Draft,
    Engine,
    MemoryEngine,
    Position,
    Retention,
    Tail,
    open_engine,
)
from syncchat.errors import EngineFailed
from tests.engine.drafts import named, texts
from tests.peer import PATIENCE, InThread, wait_for
from tests.redis_server import RedisProcess

Opener = Callable[..., Engine]


@pytest.fixture(params=["memory:", "sqlite:", "redis:"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """Opens an engine; a durable one with the data of the previous one."""
    engines: list[Engine] = []
    with contextlib.ExitStack() as stack:
        match request.param:
            case "redis:":
                name = stack.enter_context(RedisProcess()).url
            case "sqlite:":
                name = f"sqlite:{tmp_path / 'chat.db'}"
            case _:
                name = "memory:"

        def open_one(keep: Retention | None = None) -> Engine:
            engines.append(open_engine(name, keep or Retention(), codec=events.LIVE_CODEC))
            return engines[-1]

        yield open_one
        for engine in engines:
            engine.close()


def test_offsets_are_1_2_3_in_each_room(opened: Opener) -> None:
    engine = opened()
    assert [entry.offset for entry in engine.append("a", texts(3))] == [1, 2, 3]
    assert [entry.offset for entry in engine.append("b", texts(2))] == [1, 2]
    assert [entry.offset for entry in engine.append("a", texts(2))] == [4, 5]
    assert engine.follow("a").offset == 5
    assert engine.follow("nobody was here").offset == 0


def test_a_message_has_its_text_time_and_nick(opened: Opener) -> None:
    engine = opened()
    before = time.time()
    engine.append("a", [Draft("Änn", "waves\n\U0001f44b", "action", "n-1")])
    (message,) = engine.read_before("a", None, 10).messages
    assert before <= message.time <= time.time()
    assert (message.nick, message.text, message.kind, message.nonce) == (
        "Änn",
        "waves\n\U0001f44b",
        "action",
        "n-1",
    )


def test_rooms_have_epochs_of_their_own(opened: Opener) -> None:
    engine = opened()
    epochs = {engine.follow(room).epoch for room in ("a", "b", "c")}
    assert len(epochs) == 3
    assert engine.follow("a").epoch in epochs


def test_a_known_nonce_gives_its_old_offset(opened: Opener) -> None:
    engine = opened()

    def append(room: str, *drafts: Draft) -> list[tuple[int, bool]]:
        return [(answer.offset, answer.new) for answer in engine.append(room, drafts)]

    once, twice = Draft("ann", "once", nonce="x"), Draft("ann", "t", nonce="z")
    assert append("a", once, Draft("ann", "other")) == [(1, True), (2, True)]
    assert append("a", once, Draft("ann", "new", nonce="y")) == [(1, False), (3, True)]
    assert append("a", twice, twice) == [(4, True), (4, False)]
    assert engine.follow("a").offset == 4
    # Another room has its own offsets.
    assert append("b", once) == [(1, True)]


def test_a_returning_client_gets_exactly_what_it_missed(opened: Opener) -> None:
    engine = opened()
    engine.append("a", texts(10))
    epoch = engine.follow("a").epoch
    for offset in range(11):
        page = engine.read_after("a", Position(epoch, offset), 100)
        assert page.complete
        assert [entry.offset for entry in page.messages] == list(range(offset + 1, 11))


@pytest.mark.parametrize(("offset", "other_epoch"), [(11, False), (3, True)])
def test_a_position_of_another_log_gets_the_last_messages(
    opened: Opener, offset: int, other_epoch: bool
) -> None:
    engine = opened()
    engine.append("a", texts(10))
    epoch = "another life" if other_epoch else engine.follow("a").epoch
    tail = engine.read_after("a", Position(epoch, offset), 4)
    assert not tail.complete
    assert [message.offset for message in tail.messages] == [7, 8, 9, 10]
    assert (tail.reached, tail.end) == (10, engine.follow("a"))


def test_a_client_that_has_seen_nothing_misses_nothing(opened: Opener) -> None:
    engine = opened()
    engine.append("a", texts(3))
    tail = engine.read_after("a", Position("another life", 0), 10)
    assert tail.complete
    assert [message.offset for message in tail.messages] == [1, 2, 3]


def test_a_long_tail_is_read_in_pieces(opened: Opener) -> None:
    engine = opened()
    engine.append("a", texts(10))
    position, got = Position(engine.follow("a").epoch, 0), []
    while position.offset < 10:
        tail = engine.read_after("a", position, 4)
        assert tail.complete
        assert tail.end.offset == 10
        got.append([message.offset for message in tail.messages])
        assert tail.reached == got[-1][-1]
        position = Position(tail.end.epoch, tail.reached)
    assert got == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10]]
    assert engine.read_after("a", position, 4).messages == ()


def test_history_is_read_backwards_page_by_page(opened: Opener) -> None:
    engine = opened()
    engine.append("a", texts(10))
    page = engine.read_before("a", None, 4)
    assert ([entry.offset for entry in page.messages], page.complete) == ([7, 8, 9, 10], False)
    page = engine.read_before("a", 7, 4)
    assert ([entry.offset for entry in page.messages], page.complete) == ([3, 4, 5, 6], False)
    page = engine.read_before("a", 3, 4)
    assert ([entry.offset for entry in page.messages], page.complete) == ([1, 2], True)
    assert engine.read_before("a", 1, 4).messages == ()
    assert engine.read_before("empty", None, 4) == engine.read_before("a", 1, 4)


def test_retention_by_number_reports_a_gap(opened: Opener) -> None:
    engine = opened(Retention(messages=5))
    engine.append("a", texts(3))
    engine.append("a", texts(9, first=4))
    epoch = engine.follow("a").epoch
    assert [e.offset for e in engine.read_before("a", None, 100).messages] == [8, 9, 10, 11, 12]
    assert engine.read_after("a", Position(epoch, 7), 100).complete
    page = engine.read_after("a", Position(epoch, 6), 100)
    assert not page.complete
    assert [entry.offset for entry in page.messages] == [8, 9, 10, 11, 12]


def test_retention_by_time(opened: Opener) -> None:
    engine = opened(Retention(seconds=0.2))
    engine.append("a", texts(3))
    assert len(engine.read_before("a", None, 100).messages) == 3
    deadline = time.monotonic() + PATIENCE
    while engine.read_before("a", None, 100).messages:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert not engine.read_after("a", Position(engine.follow("a").epoch, 0), 100).complete
    assert engine.search("a", "message", 10) == []
    assert engine.append("a", texts(1))[0].offset == 4


def test_a_room_without_messages_continues_or_gets_a_new_epoch(
    opened: Opener,
) -> None:
    engine = opened(Retention(messages=0))
    engine.follow("a")
    assert not engine.keeps("a")
    engine.unfollow("a")
    engine.append("a", texts(3))
    begun = engine.follow("a")
    assert engine.read_before("a", None, 10).messages == ()
    assert not engine.keeps("a")
    engine.unfollow("a")
    after = engine.follow("a")
    # The log continues, or it has another epoch.
    assert after == begun or (after.epoch != begun.epoch and after.offset == 0)
    assert not engine.read_after("a", Position(begun.epoch, 2), 10).complete


@pytest.mark.slow
def test_searches_are_throttled(opened: Opener) -> None:
    engine = opened()
    engine.append("a", [Draft("ann", "word " * 2000) for _ in range(300)])
    took: list[float] = []
    failed: list[EngineFailed] = []

    def search() -> None:
        begin = time.monotonic()
        try:
            engine.search("a", "wor zzz", 10)
            took.append(time.monotonic() - begin)
        except EngineFailed as exc:
            failed.append(exc)

    threads = [threading.Thread(target=search) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert took
    assert all("too many searches" in str(exc) for exc in failed)
    # The last search waited for the others and their pauses, or reached its limit.
    assert failed or max(took) >= 3 * min(took)


def test_a_nonce_outlives_its_message(opened: Opener) -> None:
    engine = opened(Retention(messages=2))
    engine.append("a", [Draft("ann", "once", nonce="x")])
    # The messages of a busy room while a client reconnects.
    for number in range(60):
        engine.append("a", [Draft("bob", "x", nonce=f"{number} {n}") for n in range(500)])
    assert len(engine.read_before("a", None, 10).messages) == 2
    assert engine.append("a", [Draft("ann", "once", nonce="x")])[0].offset == 1
    assert engine.follow("a").offset == 30_001


def test_memory_knows_the_last_100_000_nonces_and_is_as_fast_with_them() -> None:
    engine = open_engine("memory:", Retention())

    def append(first: int) -> float:
        """Append 50,000 messages. Returns the seconds of CPU time that it took."""
        begin = time.thread_time()
        for number in range(first, first + 50_000, 500):
            nonces = range(number, number + 500)
            engine.append("a", [Draft("ann", "x", nonce=str(nonce)) for nonce in nonces])
        return time.thread_time() - begin

    empty = append(0)
    append(50_000)
    full = append(100_000)
    assert full < 5 * empty
    known, forgotten = Draft("ann", "x", nonce="50000"), Draft("ann", "x", nonce="49999")
    assert [answer.new for answer in engine.append("a", [known, forgotten])] == [False, True]
    engine.close()


def test_rooms_are_listed_while_they_have_messages(opened: Opener) -> None:
    engine = opened(Retention(seconds=0.2))
    engine.follow("silent")
    assert engine.rooms() == []
    engine.append("b", texts(1))
    engine.append("a", texts(1))
    assert engine.rooms() == ["a", "b"]
    deadline = time.monotonic() + PATIENCE
    while engine.rooms():
        assert time.monotonic() < deadline
    assert not engine.keeps("a")


def test_a_room_with_messages_outlives_its_members(opened: Opener) -> None:
    engine = opened()
    engine.append("a", texts(3))
    position = engine.follow("a")
    assert engine.keeps("a")
    engine.unfollow("a")
    assert engine.follow("a") == position
    assert len(engine.read_before("a", None, 10).messages) == 3


def test_search_finds_messages_with_every_word_the_newest_first(opened: Opener) -> None:
    engine = opened()
    said = ["Breakfast at ten", "no break", "the BREAK of dawn at ten", "Äpfel", "daybreak"]
    engine.append("a", [Draft("ann", text) for text in said])
    engine.append("b", [Draft("ann", "break")])

    def found(words: str, limit: int = 10) -> list[str]:
        return [entry.text for entry in engine.search("a", words, limit)]

    assert found("break") == [said[2], said[1], said[0]]
    assert found("break ten") == [said[2], said[0]]
    assert found("break", limit=1) == [said[2]]
    assert found("äpf") == [said[3]]
    assert found("nothing") == []
    for odd in ("", "  ", '"', "*", "text:break OR", "a AND", "NEAR(", "\\", "'; DROP TABLE"):
        found(odd)


def test_new_messages_are_delivered_once_and_live_events_pass_through(opened: Opener) -> None:
    engine = opened()
    delivered: list[tuple[str, Delivery]] = []
    live: list[tuple[str, object]] = []
    engine.attach(
        lambda room, new: delivered.append((room, new)),
        lambda room, event: live.append((room, event)),
    )
    epoch = engine.follow("a").epoch
    engine.follow("b")
    engine.append("a", [Draft("ann", "x", nonce="1"), Draft("ann", "x", nonce="1")])
    engine.append("a", [Draft("ann", "x", nonce="1"), Draft("ann", "y")])
    engine.append("a", [Draft("ann", "x", nonce="1")])
    wait_for(lambda: delivered and delivered[-1][1].position == Position(epoch, 2))
    event = events.Left("ann", 0)
    engine.publish("b", event)
    wait_for(lambda: live)
    assert {room for room, _ in delivered} == {"a"}
    assert all(delivery.complete for _, delivery in delivered)
    messages = [message for _, delivery in delivered for message in delivery.messages]
    assert [(message.offset, message.text) for message in messages] == [(1, "x"), (2, "y")]
    assert live == [("b", event)]


def test_entering_is_one_call_that_claims_a_nick_and_reads_the_tail(opened: Opener) -> None:
    engine = opened()
    engine.append("a", texts(5))
    end = engine.follow("a")
    ann = engine.enter("a", named("ann", "x"), None, 0, with_names=True)
    assert (ann.nick, ann.names, ann.tail) == ("ann", ["ann"], Tail((), True, 5, end))
    second = engine.enter("a", iter(named("ANN", "x", "y")), None, 2, with_names=False)
    assert (second.nick, second.names) == ("x", [])
    assert [message.offset for message in second.tail.messages] == [4, 5]
    third = engine.enter("a", named("y"), Position(end.epoch, 1), 3, with_names=True)
    assert third.names == ["ann", "x", "y"]
    assert third.tail == engine.read_after("a", Position(end.epoch, 1), 3)
    with pytest.raises(ValueError, match="free"):
        engine.enter("a", named("x", "y"), None, 0, with_names=False)


def test_a_nick_is_claimed_once_in_any_spelling(opened: Opener) -> None:
    engine = opened()
    assert engine.claim("a", named("Straße")) == "Straße"
    assert engine.claim("a", named("STRASSE", "Straße", "other")) == "other"
    assert engine.claim("b", named("strasse")) == "strasse"
    assert engine.claim("a", (Candidate(f"ann{number}") for number in count(1))) == "ann1"
    assert engine.names("a") == ["ann1", "other", "Straße"]
    engine.release("a", "STRASSE")
    assert engine.names("a") == ["ann1", "other"]
    assert engine.claim("a", named("strasse")) == "strasse"
    assert engine.names("nobody") == []


def test_a_nick_is_changed_in_one_step(opened: Opener) -> None:
    engine = opened()
    engine.claim("a", named("ann"))
    engine.claim("a", named("bob"))
    assert not engine.rename("a", "ann", Candidate("Bob"))
    assert engine.names("a") == ["ann", "bob"]
    assert engine.rename("a", "ann", Candidate("Ann"))
    assert engine.rename("a", "Ann", Candidate("eve"))
    assert engine.names("a") == ["bob", "eve"]


def test_concurrent_appends_leave_no_hole(opened: Opener) -> None:
    engine = opened()

    def work(number: int) -> None:
        chance = random.Random(number)
        room, count = f"room{number}", 0
        for turn in range(20):
            drafts = [
                Draft(f"nick{number}", "x", nonce=f"{number}-{turn}-{at}")
                for at in range(chance.randint(1, 5))
            ]
            entries = engine.append(room, drafts)
            assert [e.offset for e in entries] == [count + at for at in range(1, len(drafts) + 1)]
            count += len(drafts)
        assert engine.follow(room).offset == count

    threads = [InThread(partial(work, number)) for number in range(4)]
    for thread in threads:
        thread.result()


def test_memory_needs_no_colon() -> None:
    engine = open_engine("memory", Retention())
    assert isinstance(engine, MemoryEngine)
    engine.close()


@pytest.mark.parametrize(
    "name",
    [
        *["", "memory:x", "sqlite:", "sqlite", "x", "redis:", "redis://", "redis://x/y"],
        *["redis+unix://", "redis://x:y", "redis://a b", "rediss://x/1/2"],
    ],
)
def test_an_unknown_engine_is_a_value_error(name: str) -> None:
    with pytest.raises(ValueError, match="is not an engine"):
        open_engine(name, Retention())
