"""What is known of the logs in Redis, and reads in which many rooms share a round trip."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from ..errors import EngineFailed
from .interface import Delivery, Message, Position, Tail, new_epoch
from .reading import first_page
from .redis_connection import Argument, Pipeline, Reply
from .redis_format import Batch, Keys, end_of
from .redis_scripts import POSITIONS, TAIL

__all__ = ["ROOMS", "Fence", "Followed", "SharedReads", "SharedTails"]

#: Rooms per command: of one that does much for each, and of one that only looks them up.
ROOMS, _LOOKUPS = 200, 5000

#: Rooms of which a tail is shared, messages of a tail, and seconds for which it is.
_TAILS, _TAIL_MESSAGES, _TAIL_SECONDS = 100, 2000, 10.0

#: What has been seen of a log: the epoch, the last offset, and the time of that message (0: it is
#: not known).
Fence = tuple[str, int, float]

#: Seconds for which a live event is expected to come back.
_EVENT_SECONDS = 1.0


class Followed:
    """A room that is followed.

    ``delivered`` is the position up to which the follower has delivered the room's log, and
    ``stored`` one that Redis has said to be stored. Both have the time of the last message (0: it
    is not known). Only the follower's thread changes the one, and only the thread that appends to
    the room the other.
    """

    __slots__ = ("_events", "_own", "delivered", "stored", "subscribed")

    def __init__(self, position: Position, at: float) -> None:
        self.delivered = self.stored = position, at
        #: The batches that the appending thread has delivered, and the follower has not met: epoch,
        #: first and last offset, and time.
        self._own: deque[tuple[str, int, int, float]] = deque()
        #: The live events that this node publishes and the follower has not met, and until when
        #: they are expected, on the monotonic clock.
        self._events: deque[tuple[bytes, float]] = deque()
        #: Set when Redis has confirmed the subscription.
        self.subscribed = threading.Event()

    @property
    def position(self) -> Position:
        """The position up to which the room's log is delivered."""
        return self.delivered[0]

    def fence(self) -> Fence:
        """What Redis must not be behind: epoch, offset, and the time of that message."""
        (position, at), (stored, stored_at) = self.delivered, self.stored
        if stored.epoch == position.epoch and stored.offset > position.offset:
            return position.epoch, stored.offset, stored_at
        return position.epoch, position.offset, at

    def note_stored(self, end: Position, at: float) -> None:
        """Note that Redis has stored a message of that time; on the appending thread."""
        before, _ = self.stored
        if end.epoch != before.epoch or end.offset > before.offset:
            self.stored = end, at

    # What the node itself publishes: it comes back through the subscription.

    def note_own(self, delivery: Delivery) -> None:
        """Note what the appending thread has delivered; on that thread."""
        first, last = delivery.messages[0], delivery.messages[-1]
        self._own.append((delivery.position.epoch, first.offset, last.offset, last.time))

    def is_own(self, batch: Batch, offset: int) -> bool:
        """Whether the appending thread has delivered a batch; on the follower's thread.

        ``offset``: up to where the follower has delivered the log.
        """
        own = self._own
        while own and (own[0][2] <= offset or own[0][0] != batch.epoch):
            own.popleft()
        return bool(own) and own[0] == (batch.epoch, batch.first, batch.last, batch.time)

    def contradicts(self, batch: Batch) -> bool:
        """Whether a batch, which is not an own one, is in the place of one."""
        return bool(self._own) and batch.last >= self._own[0][1]

    @contextmanager
    def publishing(self, event: bytes) -> Iterator[None]:
        """Publish a live event: no message that is appended later overtakes it on this node."""
        self._events.append((event, time.monotonic() + _EVENT_SECONDS))
        try:
            yield
        except EngineFailed:
            self.meet(event)
            raise

    def meet(self, event: bytes) -> None:
        """Note a live event that has come back, or could not be published."""
        with suppress(IndexError):
            if self._events[0][0] == event:
                self._events.popleft()

    def awaits_events(self) -> bool:
        """Whether a live event of this node is on its way to the follower."""
        with suppress(IndexError):
            while self._events[0][1] < time.monotonic():
                self._events.popleft()
        return bool(self._events)


class SharedTails:
    """The ends of logs that have been read for clients which come back: others share them.

    Of a few rooms, and for a few seconds. Any thread may call the methods.
    """

    def __init__(self) -> None:
        #: Guards the tails. No other lock is taken under it.
        self._lock = threading.Lock()
        #: For each room the offset before the first message, the messages, the epoch, and
        #: until when they are kept, on the monotonic clock.
        self._tails: dict[str, tuple[int, list[Message], str, float]] = {}

    def note(self, room: str, tail: Tail) -> None:
        """Keep a tail that goes up to the end of the log."""
        if not tail.messages or not tail.complete or tail.reached != tail.end.offset:
            return
        start = tail.messages[0].offset - 1
        with self._lock:
            if room not in self._tails and len(self._tails) >= _TAILS:
                del self._tails[next(iter(self._tails))]
            until = time.monotonic() + _TAIL_SECONDS
            self._tails[room] = start, list(tail.messages), tail.end.epoch, until

    def extend(self, room: str, delivery: Delivery) -> None:
        """Add what is delivered, so that the tail stays one."""
        if room not in self._tails:
            return
        with self._lock:
            if room not in self._tails:
                return
            start, messages, epoch, until = self._tails[room]
            end = start + len(messages)
            new = [message for message in delivery.messages if message.offset > end]
            if (
                delivery.position.epoch != epoch
                or not delivery.complete
                or time.monotonic() >= until
                or len(messages) + len(new) > _TAIL_MESSAGES
                or (new and new[0].offset != end + 1)
            ):
                del self._tails[room]
            else:
                messages += new

    def find(self, room: str, after: Position, limit: int) -> Tail | None:
        """The first page of messages after a position, ``limit`` at most; None: unknown."""
        if room not in self._tails:
            return None
        with self._lock:
            if room not in self._tails:
                return None
            start, messages, epoch, until = self._tails[room]
            end = start + len(messages)
            if time.monotonic() >= until:
                del self._tails[room]
                return None
            if after.epoch != epoch or not start <= after.offset <= end:
                return None
            found, _ = first_page(messages[after.offset - start :], limit)
            reached = after.offset + len(found)
            return Tail(tuple(found), complete=True, reached=reached, end=Position(epoch, end))


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
