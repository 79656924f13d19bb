"""Checks a history: pure functions from records to violations.

Each rule is a function of its own. A violation has the records that show it, as few as
possible, by their places in the history.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence

from .facts import Facts, Place, Violation, collect, places_of
from .history import (
    Acked,
    Audit,
    Entered,
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
    encode,
)
from .runs import check_runs

__all__ = ["HEAL_SECONDS", "RULES", "Violation", "check", "excerpt"]

#: Seconds after the end of all faults until which everybody must be served again.
HEAL_SECONDS = 30.0

#: What each rule demands.
RULES = {
    1: "an acknowledged message is in the log exactly once, a refused one is not",
    2: "one content per epoch and offset, everywhere",
    3: "each client sees a contiguous run of offsets, and any hole is told before the next message",
    4: "a message acknowledged before another was sent has the lower offset",
    5: "complete: true never hides a hole",
    6: "after healing, everybody makes progress within 30 s, and all agree on the log",
    7: "a private message reaches nobody else",
    8: "after the run no thread, descriptor, process or name is left over",
}


def check(records: Sequence[Record]) -> list[Violation]:
    """All violations of the rules in the history, in the order of the rules."""
    facts = collect(records)
    rules = (_once, _one_content, check_runs, _real_time, _complete, _agreement, _secrecy, _remains)
    return [violation for rule in rules for violation in rule(facts)]


def excerpt(records: Sequence[Record], violation: Violation) -> str:
    """The records that show the violation, as lines of the history."""
    return "\n".join(encode(records[place]).decode() for place in violation.places)


def _once(facts: Facts) -> Iterator[Violation]:
    """Rule 1. A message may be lost only if it was sent before the last fault that forgets."""
    records = facts.records
    for text, places in facts.acked.items():
        ack = records[places[0]]
        assert isinstance(ack, Acked)
        sent = facts.first_sent.get(text)
        for place in facts.ends.get(ack.room, ()):
            end = records[place]
            assert isinstance(end, LogEnd)
            if end.complete and text not in facts.logged.get((end.node, end.room), {}):
                excused = sent is not None and records[sent].at < facts.forgotten_until
                if not excused:
                    yield Violation(
                        1,
                        f"{text!r} was acknowledged at {ack.epoch}:{ack.offset} of {ack.room},"
                        f" and is not in the log of node {end.node}",
                        places_of(sent, places[0], place),
                    )
                break
    for text, found in facts.positions.items():
        epochs: dict[tuple[str, str], Place] = {}
        for at, place in found.items():
            earlier = epochs.setdefault(at[:2], at)
            if earlier != at:
                yield Violation(
                    1,
                    f"{text!r} is stored twice in {at[0]}, at {earlier[2]} and {at[2]}",
                    (found[earlier], place),
                )
                break
    yield from _refused(facts)
    yield from _begun_anew(facts)


def _begun_anew(facts: Facts) -> Iterator[Violation]:
    """A part of rule 1: a log with messages begins anew after a fault that forgets, and only then.

    What was acknowledged in the old one is lost, even if the clients are told of the gap.
    """
    first_fault = min((begin for begin, _ in facts.forgetting.values()), default=math.inf)
    last: dict[str, tuple[str, int]] = {}
    for place, record in enumerate(facts.records):
        if record.at >= first_fault:
            return
        if isinstance(record, Seen):
            epoch, before = last.get(record.room, (record.epoch, place))
            if epoch != record.epoch:
                yield Violation(
                    1,
                    f"the log of {record.room} has begun anew, although no fault may do that",
                    (before, place),
                )
            last[record.room] = record.epoch, place


def _refused(facts: Facts) -> Iterator[Violation]:
    """The other half of rule 1: what was refused is not stored, unless it was sent again."""
    for place, record in enumerate(facts.records):
        if (
            isinstance(record, Refused)
            and record.text in facts.positions
            and facts.last_sent.get(record.text, place) < place
        ):
            stored = min(facts.positions[record.text].values())
            yield Violation(
                1,
                f"{record.text!r} was refused, and is stored all the same",
                (facts.last_sent.get(record.text, place), place, stored),
            )


def _one_content(facts: Facts) -> Iterator[Violation]:
    """Rule 2."""
    for at, contents in facts.contents.items():
        if len(contents) > 1:
            first, second = sorted(contents.values())[:2]
            yield Violation(
                2, f"{at[1]}:{at[2]} of {at[0]} has two contents", places_of(first, second)
            )
    for text, places in facts.acked.items():
        for place in places:
            ack = facts.records[place]
            assert isinstance(ack, Acked)
            told = facts.contents.get((ack.room, ack.epoch, ack.offset), {})
            for (other, _), seen in told.items():
                if other != text:
                    yield Violation(
                        2,
                        f"{ack.epoch}:{ack.offset} of {ack.room} was acknowledged as {text!r},"
                        f" and is {other!r}",
                        places_of(place, seen),
                    )
                    break


def _real_time(facts: Facts) -> Iterator[Violation]:
    """Rule 4, in each log from its end: the earliest acknowledgement of what comes later."""
    logs: dict[tuple[str, str], dict[int, str]] = defaultdict(dict)
    for (room, epoch, offset), contents in facts.contents.items():
        logs[room, epoch][offset] = next(iter(contents))[0]
    for (room, epoch), log in logs.items():
        earliest: int | None = None
        for offset in sorted(log, reverse=True):
            text = log[offset]
            sent = facts.first_sent.get(text)
            if earliest is not None and sent is not None and earliest < sent:
                yield Violation(
                    4,
                    f"{text!r} has the offset {offset} in {room}, lower than that of a message"
                    " that was acknowledged before it was sent",
                    (earliest, sent, min(facts.positions[text].values())),
                )
            for place in facts.acked.get(text, ()):
                ack = facts.records[place]
                if isinstance(ack, Acked) and ack.epoch == epoch:
                    earliest = place if earliest is None else min(earliest, place)
                    break


def _complete(facts: Facts) -> Iterator[Violation]:
    """Rule 5: pages after a position, and the log as it was read after the run."""
    for place, record in enumerate(facts.records):
        if isinstance(record, Page) and record.complete and record.after:
            epoch, _, offset = record.after.rpartition(":")
            if offset == "0":
                fits = not record.first or record.first == 1
            else:
                fits = record.epoch == epoch and record.first in {0, int(offset) + 1}
            if not fits:
                yield Violation(
                    5,
                    f"{record.client} is told that nothing is missing after {record.after}, and"
                    f" gets {record.epoch}:{record.first}",
                    (place,),
                )
    offsets: dict[tuple[int, str], list[int]] = defaultdict(list)
    for place, record in enumerate(facts.records):
        match record:
            case Logged():
                offsets[record.node, record.room].append(record.offset)
            case LogEnd() if record.complete:
                found = sorted(offsets[record.node, record.room])
                if found != list(range(1, record.last + 1)):
                    missing = sorted(set(range(1, record.last + 1)) - set(found))
                    yield Violation(
                        5,
                        f"the log of {record.room} at node {record.node} is said to be complete,"
                        f" and lacks {missing[:5] or 'nothing, but repeats messages'}",
                        (place,),
                    )
            case _:
                pass


def _agreement(facts: Facts) -> Iterator[Violation]:
    """Rule 6."""
    yield from _progress(facts)
    #: Where each client has seen its last message, or has come to the room in which it is.
    last_seen = {
        record.client: place
        for place, record in enumerate(facts.records)
        if isinstance(record, Seen | Left | Entered)
        and not (isinstance(record, Entered) and record.resumed)
    }
    healed = [record for record in facts.records if isinstance(record, Healed)]
    for room, places in facts.ends.items():
        first = facts.records[places[0]]
        assert isinstance(first, LogEnd)
        for place in places[1:]:
            other = facts.records[place]
            assert isinstance(other, LogEnd)
            if (other.epoch, other.last) != (first.epoch, first.last):
                yield Violation(
                    6,
                    f"the nodes {first.node} and {other.node} disagree on the end of {room}",
                    (places[0], place),
                )
        for client in healed[-1].clients if healed else ():
            place = last_seen.get(client, places[0])
            seen = facts.records[place]
            if (
                isinstance(seen, Seen | Entered)
                and seen.room == room
                and seen.epoch
                and (seen.epoch, seen.offset) != (first.epoch, first.last)
            ):
                yield Violation(
                    6,
                    f"{client} has seen {room} up to {seen.epoch}:{seen.offset}, and its log ends"
                    f" at {first.epoch}:{first.last}",
                    (place, places[0]),
                )


def _progress(facts: Facts) -> Iterator[Violation]:
    """Whether after each healing everybody has seen, and senders have sent, something new."""
    healings = [place for place, each in enumerate(facts.records) if isinstance(each, Healed)]
    for number, begin in enumerate(healings):
        healed = facts.records[begin]
        assert isinstance(healed, Healed)
        end = healings[number + 1] if number + 1 < len(healings) else len(facts.records)
        waiting = {("saw", name) for name in healed.clients}
        waiting |= {("sent", name) for name in healed.senders}
        for record in facts.records[begin:end]:
            if record.at > healed.at + HEAL_SECONDS or not waiting:
                break
            if isinstance(record, Seen | Line | Acked) and (
                facts.first_sent.get(record.text, -1) > begin
            ):
                waiting.discard(("sent" if isinstance(record, Acked) else "saw", record.client))
        for what, name in sorted(waiting):
            yield Violation(
                6,
                f"{name} has {what} nothing new within {HEAL_SECONDS:.0f} s after the faults",
                (begin,),
            )


def _secrecy(facts: Facts) -> Iterator[Violation]:
    """Rule 7."""
    private: dict[str, int] = {}
    for place, record in enumerate(facts.records):
        match record:
            case Private():
                private[record.text] = place
            case PrivateSeen():
                sent = facts.records[private[record.text]] if record.text in private else None
                if not isinstance(sent, Private) or record.client not in {sent.client, sent.to}:
                    yield Violation(
                        7,
                        f"{record.client} gets a private message that is not for it",
                        places_of(private.get(record.text), place),
                    )
            case Seen() | Line() | Logged() if record.text in private:
                yield Violation(
                    7, "a private message is in the room", (private[record.text], place)
                )
            case _:
                pass


def _remains(facts: Facts) -> Iterator[Violation]:
    """Rule 8."""
    for place, record in enumerate(facts.records):
        if isinstance(record, Audit) and record.found > record.allowed:
            yield Violation(
                8,
                f"node {record.node}: {record.what}: {record.found} are left over,"
                f" {record.allowed} may be ({record.detail})",
                (place,),
            )
