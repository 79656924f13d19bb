"""The checker's third rule: each client sees a run of offsets without a hole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .facts import Facts, Place, Violation, places_of
from .history import Entered, Gap, Left, Line, Page, Seen

__all__ = ["check_runs"]


@dataclass(slots=True)
class _Run:
    """How far one client has seen the log of one room."""

    room: str
    epoch: str
    #: The last offset that it has seen or has been told; None: anything may come.
    last: int | None
    #: The record of that, and whether a gap was told after it.
    place: int
    gap: bool = False


def check_runs(facts: Facts) -> Iterator[Violation]:
    """Rule 3."""
    runs: dict[str, _Run] = {}
    lines: dict[str, tuple[int | None, bool]] = {}
    for place, record in enumerate(facts.records):
        match record:
            case Entered():
                run = runs.get(record.client)
                if run is None or not record.resumed or run.room != record.room:
                    last = record.offset if record.epoch else None
                    runs[record.client] = _Run(record.room, record.epoch, last, place)
                lines[record.client] = (None, False)
            case Left():
                runs.pop(record.client, None)
                lines.pop(record.client, None)
            case Gap():
                if record.client in runs:
                    runs[record.client].gap = True
                if record.client in lines:
                    lines[record.client] = (lines[record.client][0], True)
            case Page() if not record.after and record.first:
                # The last messages, which end where the client has entered.
                run = runs.get(record.client)
                if run is not None and run.last is not None and run.last != record.last:
                    yield Violation(
                        3,
                        f"the history for {record.client} ends at {record.last}, and live messages"
                        f" begin after {run.last}",
                        places_of(run.place, place),
                    )
                if run is not None:
                    run.last, run.place = record.first - 1, place
            case Seen():
                run = runs.get(record.client)
                if run is None:
                    runs[record.client] = _Run(record.room, record.epoch, record.offset, place)
                    continue
                yield from _next(run, place, record)
                run.room, run.epoch, run.last = record.room, record.epoch, record.offset
                run.place, run.gap = place, False
            case Line():
                before, gap = lines.get(record.client, (None, False))
                lines[record.client] = (place, False)
                if before is not None and not gap:
                    yield from _next_line(facts, before, place)
            case _:
                pass


def _next(run: _Run, place: int, record: Seen) -> Iterator[Violation]:
    """Whether a message may come next in this run."""
    if run.last is None or run.room != record.room:
        return
    same = run.epoch == record.epoch
    if same and record.offset == run.last + 1:
        return
    if run.gap and (not same or record.offset > run.last):
        return
    if same and record.offset <= run.last:
        what = "again or too late"
    elif same:
        what = f"without a gap being told after {run.last}"
    elif run.last == 0 and record.offset == 1:
        return  # It had seen nothing, and misses nothing.
    else:
        what = f"without a gap being told after {run.epoch}:{run.last}"
    yield Violation(
        3,
        f"{record.client} sees {record.epoch}:{record.offset} of {record.room} {what}",
        (run.place, place),
    )


def _positions(facts: Facts, line: Line) -> set[Place]:
    """Where the message of a line may have been: not in a log that began after the line.

    A message that is lost with its log is sent again, and stored in the next one.
    """
    return {
        at
        for at in facts.positions.get(line.text, {})
        if at[0] == line.room and not _may_begin_after(facts, at, line.at)
    }


def _may_begin_after(facts: Facts, at: Place, moment: float) -> bool:
    """Whether the log of a position may have begun after a moment, by a fault of that time."""
    known = facts.begun[at[:2]]
    return moment < known and any(
        begin < known and moment < end for begin, end in facts.forgetting.values()
    )


def _next_line(facts: Facts, before: int, place: int) -> Iterator[Violation]:
    """Whether a line, which has no position, follows the one before it in some epoch."""
    first, second = facts.records[before], facts.records[place]
    assert isinstance(first, Line)
    assert isinstance(second, Line)
    firsts, seconds = _positions(facts, first), _positions(facts, second)
    if not firsts or not seconds or first.room != second.room:
        return
    for room, epoch, offset in firsts:
        follower = (room, epoch, offset + 1)
        # A message of a log that was lost may be known from the line only.
        if follower in seconds or follower not in facts.contents:
            return
    yield Violation(
        3,
        f"{second.client} sees {second.text!r}, of {min(seconds)[2]}, after {first.text!r},"
        f" of {min(firsts)[2]}, without a gap being told",
        (before, place),
    )
