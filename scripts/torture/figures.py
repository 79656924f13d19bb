"""What clients of any system have lost, from a history: the figures by which systems are compared.

Unlike the checker, this needs neither offsets nor epochs, which only syncchat has: the order is
what the clients have seen.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from .history import Acked, Entered, Gap, Healed, Left, Line, Record, Seen, Sent

__all__ = ["Figures", "measure"]

#: Seconds after the acknowledgement of a message in which another node may still deliver it: longer
#: than any fault lasts.
_LATER = 10.0

#: Seconds before the end in which a message need not have reached everybody.
_TAIL_SECONDS = 5.0


@dataclass(frozen=True)
class Figures:
    """Counts over all clients, and the longest silence in seconds."""

    sent: int
    acknowledged: int
    deliveries: int
    #: Acknowledged messages that a client has not seen, although it was in the room, or came
    #: back to it; each is counted for each such client.
    lost: int
    #: Those of them of which no gap was told, and the runs of these: gaps that were not told.
    silently: int
    untold: int
    #: Sightings of messages that the client has seen before.
    repeated: int
    #: Messages that a client has seen right after one that most others have seen after them.
    out_of_order: int
    gaps_told: int
    silence: float


@dataclass
class _Stay:
    """What one client has seen in one room without a gap being told, and since when."""

    client: str
    room: str
    since: float
    until: float
    texts: list[str]
    #: It has ended before the run: by a gap that was told, or a connection that was lost. Only
    #: what is missing between its messages was lost silently.
    ended: bool = False


def measure(records: Sequence[Record]) -> Figures:
    """The figures of a history of any system."""
    stays, silence, gaps = _stays(records)
    sent: dict[str, float] = {}
    acked: dict[str, tuple[str, float]] = {}
    for record in records:
        if isinstance(record, Sent):
            sent.setdefault(record.text, record.at)
        elif isinstance(record, Acked):
            acked.setdefault(record.text, (record.room, record.at))
    end = records[-1].at - _TAIL_SECONDS
    sightings, orders, first_seen = _orders(records)
    silently = untold = out_of_order = 0
    for stay in stays:
        seen = set(stay.texts)
        others = [order for client, order in orders.items() if client != stay.client]
        for pair in pairwise(dict.fromkeys(stay.texts)):
            votes = [each[pair[0]] < each[pair[1]] for each in others if each.keys() >= set(pair)]
            out_of_order += 2 * sum(votes) < len(votes)
        newest = max((sent[text] for text in seen if text in sent), default=-1.0)
        missing = {
            text
            for text, (room, at) in acked.items()
            if room == stay.room
            and text not in seen
            and sent[text] > stay.since
            and at < min(stay.until, end)
            # Of a stay that has ended: it has seen one that was sent later.
            and (not stay.ended or at + _LATER < newest)
        }
        silently += len(missing)
        walk = sorted(
            seen | missing,
            key=lambda text: first_seen[text] if text in first_seen else acked[text][1],
        )
        untold += sum(
            text in missing and before_it not in missing
            for before_it, text in zip(["", *walk], walk, strict=False)
        )
    return Figures(
        sent=len(sent),
        acknowledged=len(acked),
        deliveries=sum(len(stay.texts) for stay in stays),
        lost=_lost(records, sent, acked, end),
        silently=silently,
        untold=untold,
        repeated=sum(sum(counts.values()) - len(counts) for counts in sightings.values()),
        out_of_order=out_of_order,
        gaps_told=gaps,
        silence=silence,
    )


def _lost(
    records: Sequence[Record],
    sent: dict[str, float],
    acked: dict[str, tuple[str, float]],
    end: float,
) -> int:
    """Acknowledged messages that clients which stay have not seen, told or not."""
    #: The clients that are there at the end, with their rooms and since when.
    since: dict[str, tuple[str, float]] = {}
    seen: dict[str, set[str]] = defaultdict(set)
    lost = 0

    def count(client: str, until: float) -> None:
        nonlocal lost
        room, begin = since.pop(client, ("", 0.0))
        lost += sum(
            where == room and sent[text] > begin and at < until and text not in seen[client]
            for text, (where, at) in acked.items()
        )

    healed = [each for each in records if isinstance(each, Healed)]
    stay = set(healed[-1].clients if healed else _seen_by(records))
    for record in records:
        match record:
            case Entered() if record.client in stay:
                if since.get(record.client, (record.room, 0.0))[0] != record.room:
                    count(record.client, record.at - _TAIL_SECONDS)
                since.setdefault(record.client, (record.room, record.at))
            case Seen() | Line():
                seen[record.client].add(record.text)
            case _:
                pass
    for client in tuple(since):
        count(client, end)
    return lost


def _seen_by(records: Sequence[Record]) -> set[str]:
    """The clients that have seen anything."""
    return {each.client for each in records if isinstance(each, Seen | Line)}


def _stays(records: Sequence[Record]) -> tuple[list[_Stay], float, int]:
    """The stays of all clients, the longest time in which one saw nothing, and the gaps told."""
    stays: list[_Stay] = []
    open_stays: dict[str, _Stay] = {}
    last: dict[str, float] = {}
    silence, gaps = 0.0, 0

    def close(client: str, at: float, *, ended: bool = True) -> None:
        stay = open_stays.pop(client, None)
        if stay is not None:
            stay.until, stay.ended = at, ended
            stays.append(stay)

    for record in records:
        match record:
            case Entered() if not record.resumed:
                close(record.client, record.at)
                open_stays[record.client] = _Stay(
                    record.client, record.room, record.at, record.at, []
                )
                last.setdefault(record.client, record.at)
            case Gap():
                gaps += 1
                close(record.client, record.at)
                open_stays[record.client] = _Stay(
                    record.client, record.room, record.at, record.at, []
                )
            case Left():
                close(record.client, record.at)
                last.pop(record.client, None)
            case Seen() | Line():
                if record.client in open_stays:
                    open_stays[record.client].texts.append(record.text)
                silence = max(silence, record.at - last.get(record.client, record.at))
                last[record.client] = record.at
            case _:
                pass
    for client in tuple(open_stays):
        close(client, records[-1].at, ended=False)
    return stays, silence, gaps


def _orders(
    records: Sequence[Record],
) -> tuple[dict[str, dict[str, int]], dict[str, dict[str, int]], dict[str, float]]:
    """How often each client has seen each text, at which places, and when it was first seen.

    A text that any client has seen again has no place: it was sent again after a loss.
    """
    sightings: dict[str, dict[str, int]] = defaultdict(dict)
    first_seen: dict[str, float] = {}
    again: set[str] = set()
    for record in records:
        if isinstance(record, Seen | Line):
            counts = sightings[record.client]
            counts[record.text] = counts.get(record.text, 0) + 1
            if counts[record.text] > 1:
                again.add(record.text)
            first_seen.setdefault(record.text, record.at)
    orders = {
        # A dictionary has its keys in the order of the first sightings.
        client: {text: place for place, text in enumerate(counts) if text not in again}
        for client, counts in sightings.items()
    }
    return sightings, orders, first_seen
