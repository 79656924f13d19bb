"""The rooms that the user follows: what was seen and what was said in each."""

from __future__ import annotations

import threading
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace

from ..chat.events import MAX_WATCHED, Ack, Activity, Message, Topic, WatchedRoom, Welcome
from ..client import Disconnected, Event

__all__ = ["CATCH_UP", "Note", "Room", "RoomList", "best_matches"]

#: The most missed messages that are shown when the user enters a room.
CATCH_UP = 200


@dataclass(frozen=True, slots=True)
class Room:
    """A room as the user knows it."""

    name: str
    #: The epoch of the room's log and the last offset that the user has seen; the epoch is
    #: empty if the user has never been there.
    epoch: str = ""
    seen: int = 0
    #: The last offset of the log, as far as it is known.
    end: int = 0
    #: How many messages the user has not seen, and whether one of them mentions the user.
    unread: int = 0
    mentioned: bool = False
    topic: str = ""
    #: Whether the user follows the room. If not, only the place is kept.
    watched: bool = True

    @property
    def place(self) -> str | None:
        """The last position that the user has seen, as ``EPOCH:OFFSET``."""
        return f"{self.epoch}:{self.seen}" if self.epoch else None


@dataclass(frozen=True, slots=True)
class Note:
    """What the list of rooms says about an event."""

    #: For a welcome: whether the user has come from another room; and how many messages
    #: were said since the last visit, None if there was none.
    has_moved: bool = False
    missed: int | None = None
    #: For a message of the history: whether the user has seen it and does not want it again.
    hidden: bool = False
    #: For a message: whether it is the first one that the user has not seen.
    is_first_unread: bool = False


class RoomList:
    """The rooms in the order in which the user came. Any thread may call every method.

    ``history`` is how many messages that were seen before are shown again on entering.
    """

    def __init__(self, rooms: Iterable[Room] = (), history: int = 1000) -> None:
        self._history = history
        #: Guards everything below. No other lock is taken while it is held.
        self._lock = threading.Lock()
        self._rooms = {room.name: room for room in rooms}
        #: The names of the rooms that the user was in, the current one last.
        self._visited: list[str] = []
        #: The names of the rooms whose places have changed since :meth:`take_changed`.
        self._changed: set[str] = set()
        #: Whether the connection broke and no welcome has arrived since.
        self._returning = False
        #: In the current room: the last offset in the welcome; the last offset that was
        #: seen before, None if there is none; whether the mark is still to be shown.
        self._end = 0
        self._seen: int | None = None
        self._marks = False

    # Reading.

    @property
    def current(self) -> Room | None:
        """The current room."""
        with self._lock:
            return self._rooms[self._visited[-1]] if self._visited else None

    @property
    def watched(self) -> list[Room]:
        """The rooms that the user follows, with the current one."""
        with self._lock:
            return [
                room
                for room in self._rooms.values()
                if room.watched or room.name in self._visited[-1:]
            ]

    def get(self, name: str) -> Room | None:
        """Return the room of that name, if the user knows it."""
        with self._lock:
            return self._rooms.get(name)

    def others(self) -> tuple[WatchedRoom, ...]:
        """Return the followed rooms but the current one, as a request to watch them needs them."""
        with self._lock:
            return tuple(
                WatchedRoom(room.name, room.place)
                for room in self._rooms.values()
                if room.watched and room.name not in self._visited[-1:]
            )[:MAX_WATCHED]

    def next_active(self) -> Room | None:
        """Return the next room with activity behind the current one, those with mentions first."""
        current = self.current
        rooms = self.watched
        at = next((i for i, room in enumerate(rooms) if room == current), -1)
        behind = [room for room in rooms[at + 1 :] + rooms[: max(at, 0)] if room.unread]
        return next((room for room in behind if room.mentioned), next(iter(behind), None))

    def by_activity(self) -> list[str]:
        """Return the names of the followed rooms: with mentions, with news, others, the current."""
        current = self.current
        rooms = sorted(self.watched, key=lambda room: (not room.mentioned, not room.unread))
        names = [room.name for room in rooms]
        return sorted(names, key=lambda name: current is not None and name == current.name)

    def before(self, name: str) -> str | None:
        """Return the followed room that the user was in last, other than ``name``."""
        with self._lock:
            rooms = [each for each in self._visited if each != name and self._rooms[each].watched]
            others = [each.name for each in self._rooms.values() if each.watched]
            return next(iter([*reversed(rooms), *(each for each in others if each != name)]), None)

    # Changing.

    def apply(self, event: Event, own: str, ignored: Container[str] = ()) -> Note:
        """Note ``event``. ``own`` is the user's nick, ``ignored`` are casefolded nicks."""
        with self._lock:
            match event:
                case Welcome():
                    return self._enter_locked(event)
                case Disconnected():
                    self._returning = True
                case Message():
                    return self._hear_locked(event.offset)
                case Ack():
                    self._hear_locked(event.offset)
                case Topic() if self._visited:
                    name = self._visited[-1]
                    self._rooms[name] = replace(self._rooms[name], topic=event.text)
                case Activity():
                    mention = event.mention
                    mentions = mention is not None and mention.nick != own
                    if mention is not None and mention.nick.casefold() in ignored:
                        mentions = False
                    self._note_activity_locked(event, mentions=mentions)
                case _:
                    pass
        return Note()

    def leave(self, name: str) -> bool:
        """Stop following a room. Returns False if the user does not follow it."""
        with self._lock:
            room = self._rooms.get(name)
            if room is None or not room.watched:
                return False
            self._rooms[name] = replace(room, watched=False, unread=0, mentioned=False)
            self._changed.add(name)
            return True

    def take_changed(self) -> list[Room]:
        """Return the rooms whose places have changed since the last call."""
        with self._lock:
            changed, self._changed = self._changed, set()
            return [room for name, room in self._rooms.items() if name in changed]

    # Called with the lock held.

    def _enter_locked(self, welcome: Welcome) -> Note:
        assert self._lock.locked()
        for name, place in welcome.places.items():
            self._take_place_locked(name, place)
        name, epoch, offset = welcome.room, welcome.epoch, welcome.offset
        room = self._rooms.get(name, Room(name))
        stays = self._returning and self._visited[-1:] == [name]
        self._returning = False
        # A log that has begun anew has only messages that the user has not seen.
        seen = room.seen if room.epoch == epoch else 0
        self._end = offset
        self._seen = seen if room.epoch else None
        self._marks = bool(room.epoch) and not stays
        self._rooms[name] = Room(name, epoch, offset, offset, topic=welcome.topic)
        self._changed.add(name)
        has_moved = bool(self._visited) and self._visited[-1] != name
        self._visited = [each for each in self._visited if each != name] + [name]
        return Note(has_moved, max(0, offset - seen) if self._marks else None)

    def _take_place_locked(self, name: str, place: str) -> None:
        """Note the place that the server has kept, unless this client has seen more."""
        assert self._lock.locked()
        epoch, _, digits = place.rpartition(":")
        if not (digits.isascii() and digits.isdecimal() and len(digits) <= 16):
            return
        room = self._rooms.get(name, Room(name, watched=False))
        if room.epoch != epoch or room.seen < int(digits):
            self._rooms[name] = replace(room, epoch=epoch, seen=int(digits))

    def _hear_locked(self, offset: int) -> Note:
        """Note a message of the current room."""
        assert self._lock.locked()
        if not self._visited:
            return Note()
        name = self._visited[-1]
        room = self._rooms[name]
        if offset > room.seen:
            self._rooms[name] = replace(room, seen=offset, end=offset)
            self._changed.add(name)
        if self._seen is None or offset <= self._seen:
            known = offset <= self._end - self._history
            return Note(hidden=known)
        first, self._marks = self._marks and offset <= self._end, False
        return Note(is_first_unread=first)

    def _note_activity_locked(self, event: Activity, *, mentions: bool) -> None:
        assert self._lock.locked()
        room = self._rooms.get(event.room)
        if room is None or not room.watched or event.room in self._visited[-1:]:
            # The user has entered or left the room meanwhile.
            return
        if room.epoch != event.epoch:
            # The log is new, or the user has never been there.
            fresh = 0 if room.epoch else event.offset
            room = replace(room, epoch=event.epoch, seen=fresh, end=fresh, unread=0)
        unread = event.unread
        if unread is None:
            unread = room.unread + max(0, event.offset - room.end)
        self._rooms[event.room] = replace(
            room,
            end=event.offset,
            unread=unread,
            mentioned=unread > 0 and (room.mentioned or mentions),
        )


# Finding a room.


def best_matches(typed: str, names: Sequence[str]) -> list[str]:
    """Return the names that contain the characters of ``typed`` in that order, the best first.

    A beginning is better than a middle, and adjacent characters are better than others.
    Otherwise the order of ``names`` stays.
    """
    sought = typed.lstrip("#").casefold()
    ranks = []
    for name in names:
        folded = name.casefold()
        at, found = -1, []
        for char in sought:
            at = folded.find(char, at + 1)
            found.append(at)
            if at < 0:
                break
        if -1 in found:
            continue
        inside = folded.find(sought)
        spread = found[-1] - found[0] if found else 0
        rank = (folded != sought, inside != 0, inside < 0, spread)
        ranks.append((rank, name))
    # The sort is stable.
    return [name for _, name in sorted(ranks, key=lambda each: each[0])]
