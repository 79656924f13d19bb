"""What several rules of the checker need to know of a history, collected in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from .history import Acked, Entered, Fault, FaultEnd, LogEnd, Logged, Record, Seen, Sent

__all__ = ["Facts", "Place", "Violation", "collect", "places_of"]

#: Where a message is: its room, epoch and offset.
Place = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule is broken, as the records at these places of the history show."""

    rule: int
    text: str
    places: tuple[int, ...]


@dataclass(slots=True)
class Facts:
    """What several rules need, collected in one pass."""

    records: Sequence[Record]
    #: When faults began and ended by which acknowledged messages may be lost, as documented.
    forgetting: dict[int, tuple[float, float]] = field(default_factory=dict)
    #: The first time that each text was sent, and the last, as places in the history.
    first_sent: dict[str, int] = field(default_factory=dict)
    last_sent: dict[str, int] = field(default_factory=dict)
    #: Every text and stamp that was told for a position, and where for the first time.
    contents: dict[Place, dict[tuple[str, str], int]] = field(default_factory=dict)
    #: The positions of each text.
    positions: dict[str, dict[Place, int]] = field(default_factory=dict)
    #: When each log was first known of, by its room and epoch.
    begun: dict[tuple[str, str], float] = field(default_factory=dict)
    #: The places of the acknowledgements of each text.
    acked: dict[str, list[int]] = field(default_factory=dict)
    #: The rooms whose logs were read after the run, and the places of a text in these logs.
    ends: dict[str, list[int]] = field(default_factory=dict)
    logged: dict[tuple[int, str], dict[str, list[int]]] = field(default_factory=dict)

    @property
    def forgotten_until(self) -> float:
        """The last moment at which acknowledged messages could be lost."""
        return max((end for _, end in self.forgetting.values()), default=-1.0)

    def note_content(self, place: int, at: Place, text: str, stamp: str) -> None:
        self.contents.setdefault(at, {}).setdefault((text, stamp), place)
        self.positions.setdefault(text, {}).setdefault(at, place)


def collect(records: Sequence[Record]) -> Facts:
    """The facts of a history."""
    facts = Facts(records)
    for place, record in enumerate(records):
        if isinstance(record, Acked | Entered | Logged | Seen) and record.epoch:
            facts.begun.setdefault((record.room, record.epoch), record.at)
        match record:
            case Fault() if record.forgets:
                facts.forgetting[record.number] = record.at, record.at
            case FaultEnd() if record.number in facts.forgetting:
                facts.forgetting[record.number] = facts.forgetting[record.number][0], record.at
            case Sent():
                facts.first_sent.setdefault(record.text, place)
                facts.last_sent[record.text] = place
            case Acked():
                facts.acked.setdefault(record.text, []).append(place)
                at = (record.room, record.epoch, record.offset)
                facts.positions.setdefault(record.text, {}).setdefault(at, place)
            case Seen():
                at = (record.room, record.epoch, record.offset)
                facts.note_content(place, at, record.text, record.stamp)
            case Logged():
                at = (record.room, record.epoch, record.offset)
                facts.note_content(place, at, record.text, record.stamp)
                log = facts.logged.setdefault((record.node, record.room), {})
                log.setdefault(record.text, []).append(place)
            case LogEnd():
                facts.ends.setdefault(record.room, []).append(place)
            case _:
                pass
    return facts


def places_of(*places: int | None) -> tuple[int, ...]:
    """The places that are known, in their order."""
    return tuple(sorted({place for place in places if place is not None}))
