"""The checker of the torture test finds each violation that is planted in a valid history."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.torture import scripts
from tests.torture.valid import CLIENTS, PLAIN, ROOM, histories

with scripts():
    from torture.checker import HEAL_SECONDS, RULES, check, excerpt
    from torture.history import (
        Acked,
        Audit,
        Entered,
        Fault,
        FaultEnd,
        Gap,
        Healed,
        Left,
        Line,
        LogEnd,
        Logged,
        Page,
        Private,
        PrivateSeen,
        Record,
        Refused,
        Seen,
        Sent,
        load,
        save,
    )

T = TypeVar("T", bound=Record)
Records = list[Record]
#: Plants a violation in a history, at a place that the number chooses; None: there is none.
Plant = Callable[[Records, int], Records | None]


def chosen(
    records: Records, kind: type[T], number: int, fits: Callable[[T], bool] = lambda _: True
) -> tuple[int, T] | None:
    """A record of this kind and its place."""
    found = [
        (place, each) for place, each in enumerate(records) if isinstance(each, kind) and fits(each)
    ]
    return found[number % len(found)] if found else None


def final(records: Records) -> LogEnd:
    (end,) = [each for each in records if isinstance(each, LogEnd)]
    return end


def lost(records: Records, number: int) -> Records | None:
    """An acknowledged message is not in the log: another one has its place."""
    end = final(records)
    found = chosen(
        records, Acked, number, lambda each: each.epoch == end.epoch and each.offset == end.last
    )
    if found is None:
        return None
    text = found[1].text
    left = [each for each in records if not isinstance(each, Seen | Line) or each.text != text]
    return [
        replace(each, last=end.last - 1) if isinstance(each, LogEnd) else each
        for each in left
        if not isinstance(each, Logged) or each.text != text
    ]


def stored_twice(records: Records, number: int) -> Records | None:
    found = chosen(records, Logged, number)
    if found is None:
        return None
    end = final(records)
    again = replace(found[1], offset=end.last + 1)
    changed: Records = [
        replace(each, last=end.last + 1) if isinstance(each, LogEnd) else each for each in records
    ]
    changed.insert(records.index(end), again)
    return changed


def refused_but_stored(records: Records, number: int) -> Records | None:
    stored = {each.text for each in records if isinstance(each, Seen)}
    found = chosen(records, Sent, number, lambda each: each.text in stored)
    if found is None:
        return None
    place, sent = found
    refused = Refused(sent.at, sent.client, ROOM, sent.text)
    return [*records[: place + 1], refused, *records[place + 1 :]]


def begun_anew(records: Records, number: int) -> Records | None:
    """A log is lost by a fault that must not lose it, and everybody is told of the gap."""
    first = next((each for each in records if isinstance(each, Fault)), None)
    texts = (
        {each.text for each in records[: records.index(first)] if isinstance(each, Seen)}
        if first
        else set()
    )
    if not texts:
        return None
    return [replace(each, forgets=False) if isinstance(each, Fault) else each for each in records]


def two_contents(records: Records, number: int) -> Records | None:
    found = chosen(records, Seen, number)
    if found is None:
        return None
    place, seen = found
    twins = [
        each
        for each in records
        if isinstance(each, Seen | Logged)
        and each is not seen
        and (each.epoch, each.offset) == (seen.epoch, seen.offset)
    ]
    if not twins:
        return None
    return [*records[:place], replace(seen, stamp="another"), *records[place + 1 :]]


def hole(records: Records, number: int) -> Records | None:
    """A client does not see a message, and sees the next one."""
    found = chosen(records, Seen, number)
    if found is None:
        return None
    place, seen = found
    own = [each for each in records if isinstance(each, Seen | Gap) and each.client == seen.client]
    index = next(i for i, each in enumerate(own) if each is seen)
    told = isinstance(own[index - 1], Gap) if index else False
    if told or index + 1 == len(own) or isinstance(own[index + 1], Gap):
        # It is the first one after a gap, or a gap is told after it.
        return None
    return records[:place] + records[place + 1 :]


def seen_again(records: Records, number: int) -> Records | None:
    found = chosen(records, Seen, number)
    if found is None:
        return None
    place, seen = found
    return [*records[: place + 1], seen, *records[place + 1 :]]


def line_missing(records: Records, number: int) -> Records | None:
    found = chosen(records, Line, number)
    if found is None:
        return None
    place, _ = found
    inner = [each for each in records if isinstance(each, Line)]
    if inner[0] is found[1] or inner[-1] is found[1]:
        return None
    left = records[:place] + records[place + 1 :]
    before = [i for i, each in enumerate(left[:place]) if getattr(each, "client", "") == PLAIN]
    after = [each for each in left[place:] if getattr(each, "client", "") == PLAIN]
    known = {each.text for each in left if isinstance(each, Seen | Logged)}
    neighbours = (left[before[-1]], after[0])
    if not all(isinstance(each, Line) and each.text in known for each in neighbours):
        return None
    return left


def against_real_time(records: Records, number: int) -> Records | None:
    """A message is sent after a later one was acknowledged."""
    acks = [each for each in records if isinstance(each, Acked)]
    pairs = [(a, b) for a in acks for b in acks if a.epoch == b.epoch and a.offset < b.offset]
    if not pairs:
        return None
    first, second = pairs[number % len(pairs)]
    place = next(
        i for i, each in enumerate(records) if isinstance(each, Sent) and each.text == first.text
    )
    left = records[:place] + records[place + 1 :]
    left.insert(left.index(second) + 1, records[place])
    return left


def hidden_hole(records: Records, number: int) -> Records | None:
    found = chosen(records, Page, number, lambda each: not each.complete)
    if found is None:
        return None
    place, page = found
    return [*records[:place], replace(page, complete=True), *records[place + 1 :]]


def log_with_a_hole(records: Records, number: int) -> Records | None:
    found = chosen(records, Logged, number)
    return None if found is None else records[: found[0]] + records[found[0] + 1 :]


def no_progress(records: Records, number: int) -> Records | None:
    """A client is served only long after the healing."""
    place = next(i for i, each in enumerate(records) if isinstance(each, Healed))
    later = [replace(each, at=each.at + HEAL_SECONDS + 1) for each in records[place + 1 :]]
    return [*records[: place + 1], *later]


def nodes_disagree(records: Records, number: int) -> Records | None:
    end = final(records)
    other = [replace(each, node=1) for each in records if isinstance(each, Logged)][:-1]
    return [*records, *other, replace(end, node=1, last=end.last - 1)]


def left_behind(records: Records, number: int) -> Records | None:
    """A client does not get the last message."""
    client = CLIENTS[number % len(CLIENTS)]
    place = max(
        i for i, each in enumerate(records) if isinstance(each, Seen) and each.client == client
    )
    return records[:place] + records[place + 1 :]


def leaked(records: Records, number: int) -> Records | None:
    found = chosen(records, Private, number)
    assert found is not None
    _, sent = found
    stranger = next(name for name in CLIENTS if name not in {sent.client, sent.to})
    return [*records, PrivateSeen(records[-1].at, stranger, sent.text)]


def leaked_into_the_room(records: Records, number: int) -> Records | None:
    sent = next(each for each in records if isinstance(each, Private))
    return [*records, Line(records[-1].at, PLAIN, ROOM, sent.text)]


def left_over(records: Records, number: int) -> Records | None:
    found = chosen(records, Audit, number)
    assert found is not None
    place, audit = found
    return [*records[:place], replace(audit, found=6), *records[place + 1 :]]


PLANTS: list[tuple[int, Plant]] = [
    (1, lost),
    (1, stored_twice),
    (1, refused_but_stored),
    (1, begun_anew),
    (2, two_contents),
    (3, hole),
    (3, seen_again),
    (3, line_missing),
    (4, against_real_time),
    (5, hidden_hole),
    (5, log_with_a_hole),
    (6, no_progress),
    (6, nodes_disagree),
    (6, left_behind),
    (7, leaked),
    (7, leaked_into_the_room),
    (8, left_over),
]


@given(histories())
@settings(deadline=None)
def test_a_valid_history_has_no_violation(records: Records) -> None:
    assert check(records) == []


@pytest.mark.parametrize(("rule", "plant"), PLANTS, ids=lambda each: getattr(each, "__name__", ""))
def test_each_planted_violation_is_found(rule: int, plant: Plant) -> None:
    planted = 0

    @given(histories(), st.integers(0, 10_000))
    @settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.filter_too_much])
    def finds(records: Records, number: int) -> None:
        nonlocal planted
        changed = plant(records, number)
        # Not every history has a place for it: Hypothesis makes up to ten times as many.
        assume(changed is not None)
        assert changed is not None
        planted += 1
        violations = check(changed)
        assert rule in {each.rule for each in violations}, violations
        for violation in violations:
            # A few records show it.
            assert 1 <= len(violation.places) <= 3
            assert len(excerpt(changed, violation).splitlines()) == len(violation.places)

    finds()
    assert planted > 10


def test_every_rule_has_a_planted_violation() -> None:
    assert {rule for rule, _ in PLANTS} == set(RULES)


@given(histories())
@settings(deadline=None, max_examples=20)
def test_a_history_is_the_same_after_it_was_written_to_a_file(records: Records) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "history.jsonl"
        save(path, records)
        assert load(path) == records


def test_what_is_lost_with_the_memory_of_a_server_is_no_violation() -> None:
    from tests.torture.valid import World  # noqa: PLC0415 - beside its use

    world = World()
    world.begin()
    for client in CLIENTS:
        world.say(client)
    world.forget()
    world.finish()
    assert check(world.records) == []
    # The same with an engine that keeps messages, where nothing may be lost.
    kept = [
        replace(each, forgets=False) if type(each).__name__ == "Fault" else each
        for each in world.records
    ]
    assert {each.rule for each in check(kept)} == {1}


def test_who_has_moved_need_not_see_the_end_of_the_room_before() -> None:
    from tests.torture.valid import World  # noqa: PLC0415 - beside its use

    world = World()
    world.begin()
    world.write(Healed, CLIENTS, ())
    world.say("bob")
    world.leave("ann")
    world.write(Entered, "ann", "other", "x", 3)
    world.say("bob")
    for offset, text in enumerate(world.log, 1):
        world.write(Logged, 0, ROOM, world.name, offset, text, f"stamp of {text}")
    world.write(LogEnd, 0, ROOM, world.name, 1, len(world.log), complete=True)
    assert check(world.records) == []
    # But that of the room in which it is.
    world.write(LogEnd, 0, "other", "x", 4, 4, complete=False)
    assert {each.rule for each in check(world.records)} == {6}


def test_a_line_whose_log_is_lost_may_have_another_position_in_the_next_one() -> None:
    from tests.torture.valid import World  # noqa: PLC0415 - beside its use

    world = World()
    world.begin()
    world.say(PLAIN)
    for client in CLIENTS:
        world.leave(client)
    # Nobody else learns where it was.
    world.say("ann")
    lost = world.log[-1]
    world.write(Entered, "bob", ROOM, world.name, 2)
    world.seen["bob"] = 1, 2
    world.away.discard("bob")
    world.say("bob")
    world.forget()
    world.return_("bob")
    world.log.append(lost)
    world.write(Sent, "ann", ROOM, lost, again=True)
    world.show("bob")
    world.write(Line, PLAIN, ROOM, lost)
    for client in CLIENTS:
        world.return_(client)
    world.say("bob")
    world.finish()
    assert check(world.records) == []


def test_a_line_may_be_of_a_log_that_had_begun_although_others_see_it_after_the_next_fault() -> (
    None
):
    from tests.torture.valid import World  # noqa: PLC0415 - beside its use

    world = World()
    world.begin()
    world.say("ann")
    lost = world.log[-1]
    world.forget()
    world.return_("bob")
    world.say("bob")
    world.leave("bob")
    world.log.append(lost)
    world.write(Sent, "ann", ROOM, lost, again=True)
    world.write(Line, PLAIN, ROOM, lost)
    # Nothing is lost by this fault.
    world.write(Fault, 2, "kill", "node 0", forgets=True)
    world.write(FaultEnd, 2)
    for client in CLIENTS:
        world.return_(client)
    world.say("bob")
    world.finish()
    assert check(world.records) == []


def test_lines_of_a_log_that_a_lasting_fault_has_ended_may_have_another_order_in_the_next() -> None:
    from tests.torture.valid import World  # noqa: PLC0415 - beside its use

    world = World()
    world.begin()
    for client in CLIENTS:
        world.leave(client)
    world.write(Fault, 1, "rolling restart", "node 0", forgets=True)
    # The server has not ended yet. Nobody else learns of these.
    for text in ("ann.1", "bob.2"):
        world.write(Sent, text.partition(".")[0], ROOM, text)
        world.write(Line, PLAIN, ROOM, text)
    world.write(FaultEnd, 1)
    world.faults = 1
    world.write(Left, PLAIN)
    world.epoch += 1
    world.write(Entered, PLAIN, ROOM)
    world.sent = 2
    for text in ("bob.2", "ann.1"):
        world.log.append(text)
        world.write(Sent, text.partition(".")[0], ROOM, text, again=True)
        world.write(Line, PLAIN, ROOM, text)
    for client in CLIENTS:
        world.return_(client)
    world.finish()
    assert check(world.records) == []
