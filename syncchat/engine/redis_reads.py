"""What is known of the logs in Redis, and reads in which many rooms share a round trip."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from .interface import Position, new_epoch
from .redis_connection import Argument, Pipeline, Reply
from .redis_format import Keys, end_of
from .redis_scripts import POSITIONS, TAIL

__all__ = ["ROOMS", "Fence", "Followed", "SharedReads"]

#: Rooms per command: of one that does much for each, and of one that only looks them up.
ROOMS, _LOOKUPS = 200, 5000

#: What has been seen of a log: the epoch, the last offset, and the time of that message (0: it is
#: not known).
Fence = tuple[str, int, float]


class Followed:
    """A room that is followed.

    Only the follower's thread changes ``delivered``: the position up to which the room's log is
    delivered, and the time of the last message (0: not known). ``stored`` is a position that
    Redis has said to be stored; only the thread that appends to the room changes it.
    """

    __slots__ = ("delivered", "stored", "subscribed")

    def __init__(self, position: Position, at: float) -> None:
        self.delivered = position, at
        self.stored = position
        #: Set when Redis has confirmed the subscription.
        self.subscribed = threading.Event()

    @property
    def position(self) -> Position:
        """The position up to which the room's log is delivered."""
        return self.delivered[0]

    def fence(self) -> Fence:
        """What Redis must not be behind: epoch, offset, and the time of that message."""
        (position, at), stored = self.delivered, self.stored
        if stored.epoch == position.epoch and stored.offset > position.offset:
            return position.epoch, stored.offset, 0
        return position.epoch, position.offset, at


class SharedReads:
    """Reads for many rooms at once. Any thread may call the methods."""

    def __init__(self, pipeline: Pipeline, keys: Keys) -> None:
        self._pipeline = pipeline
        self._keys = keys

    def positions(self, seen: Sequence[tuple[str, Fence]]) -> list[tuple[str, int, int, float]]:
        """The epoch, last offset, base and last time of each room. Raises EngineFailed.

        If Redis has gone back behind what has been seen of a room, this begins a new epoch.
        """
        calls = []
        for at in range(0, len(seen), ROOMS):
            arguments: list[Argument] = []
            for room, fence in seen[at : at + ROOMS]:
                arguments += [self._keys.channel(room), new_epoch(), *fence]
            calls.append(
                ([self._keys.prefix(room) for room, _ in seen[at : at + ROOMS]], arguments)
            )
        replies = self._pipeline.run_all(POSITIONS, calls) if calls else []
        return [
            (epoch.decode(), last, base, float(time_))
            for reply in replies
            for epoch, last, base, time_ in reply
        ]

    def ends(self, rooms: Sequence[str]) -> dict[str, tuple[Position, float]]:
        """The ends of the logs that have messages, and the times of the last messages.

        Costs Redis a command for thousands of rooms. Raises EngineFailed.
        """
        commands = [
            ("HMGET", "syncchat:rooms", *rooms[at : at + _LOOKUPS])
            for at in range(0, len(rooms), _LOOKUPS)
        ]
        found = [end for reply in self._pipeline.ask(commands) for end in reply]
        return {
            room: end_of(end) for room, end in zip(rooms, found, strict=True) if end is not None
        }

    def tails(self, places: Sequence[tuple[str, Position]], limit: int) -> list[Reply]:
        """What TAIL returns for each room and position. Raises EngineFailed."""
        calls: list[tuple[Sequence[str], Sequence[Argument]]] = [
            (
                [self._keys.prefix(room)],
                [self._keys.channel(room), new_epoch(), place.epoch, place.offset, limit],
            )
            for room, place in places
        ]
        return self._pipeline.run_all(TAIL, calls)
