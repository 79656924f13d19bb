"""Tracks what was seen and what is new in the rooms that a client watches."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from ..chat import events
from ..chat.asked import PLACE_FORM, position_of
from ..engine import Position

__all__ = ["RoomNews", "WatchedRooms"]


@dataclass(frozen=True, slots=True)
class RoomNews:
    """What is new in a watched room.

    ``place`` is the last position that the client has seen, as ``EPOCH:OFFSET``; None: none yet.
    ``unread`` messages were stored since. ``mention`` is the last of them that the server has
    told to contain the client's nick, if there is one.
    """

    room: str
    place: str | None = None
    unread: int = 0
    mention: events.Message | None = None


class _Room:
    """A watched room. ``seen`` is the last position that the client has seen, None for none."""

    def __init__(self, seen: Position | None) -> None:
        self.seen = seen
        #: The end of the log, as the server last told it.
        self.end = seen
        self.mention: events.Message | None = None

    @property
    def place(self) -> str | None:
        return None if self.seen is None else f"{self.seen.epoch}:{self.seen.offset}"

    @property
    def unread(self) -> int:
        """The messages after the seen position; all of a log that has begun anew since."""
        if self.end is None or self.seen is None:
            return 0
        known = self.seen.offset if self.seen.epoch == self.end.epoch else 0
        return max(0, self.end.offset - known)

    def see(self, position: Position) -> None:
        """Note that everything up to ``position`` is seen. It never goes back in the same log."""
        seen = self.seen
        if seen is None or seen.epoch != position.epoch or seen.offset < position.offset:
            self.seen = position
        end = self.end
        if end is None or (end.epoch == position.epoch and end.offset < position.offset):
            self.end = position
        if not self.unread:
            self.mention = None


class WatchedRooms:
    """The rooms that one client watches, kept across reconnects. A part of the state machine."""

    def __init__(self) -> None:
        self._rooms: dict[str, _Room] = {}
        self._requests: deque[events.Watch | events.Unwatch] = deque()
        #: The places that the server has not been told yet. None: it keeps none for this client.
        self._unreported: dict[str, str] | None = {}

    # What the program does.

    def watch(self, wanted: Mapping[str, str | None]) -> None:
        """Watch rooms, each from the position that was seen there, or from now on.

        Raises :class:`ValueError` for a malformed position, or for too many rooms.
        """
        if len(self._rooms.keys() | wanted.keys()) > events.MAX_WATCHED:
            raise ValueError(f"a client can watch at most {events.MAX_WATCHED} rooms")
        places = {name: None if text is None else _position(text) for name, text in wanted.items()}
        for name, seen in places.items():
            self._rooms.setdefault(name, _Room(seen))
        self._ask_for(places)

    def unwatch(self, names: Iterable[str]) -> None:
        """Watch rooms no more."""
        known = tuple(name for name in names if self._rooms.pop(name, None) is not None)
        if known:
            self._requests.append(events.Unwatch(known))

    def report(self, room: str, place: str) -> None:
        """Note that the person has seen a room up to a place, which the server is to keep.

        Raises :class:`ValueError` for a malformed place.
        """
        position = _position(place)
        if room in self._rooms:
            self._rooms[room].see(position)
        if self._unreported is not None:
            self._unreported[room] = place

    def news(self, room: str | None, place: str | None) -> tuple[RoomNews, ...]:
        """What is new in each room. ``room`` is the current one, seen up to ``place``."""
        return tuple(
            RoomNews(name, place or each.place)
            if name == room
            else RoomNews(name, each.place, each.unread, each.mention)
            for name, each in self._rooms.items()
        )

    def place(self, room: str) -> str | None:
        """The position that was seen in a watched room, to enter it again."""
        return self._rooms[room].place if room in self._rooms else None

    # What the server does.

    def leave(self, room: str | None, place: str | None) -> None:
        """Note that the client has left a room, of which it has seen everything up to ``place``."""
        # The server may be hostile, and name its epoch as it likes.
        if room in self._rooms and place is not None and PLACE_FORM.fullmatch(place):
            self._rooms[room].end = None
            self._rooms[room].see(position_of(place))

    def enter(self, welcome: events.Welcome, *, anew: bool) -> None:
        """Note that the client has entered a room, ``anew``: on a new connection."""
        if welcome.person is None:
            self._unreported = None
        elif self._unreported is None:
            self._unreported = {}
        for name, place in welcome.places.items():
            # Of another device.
            if name in self._rooms and PLACE_FORM.fullmatch(place):
                self._rooms[name].see(position_of(place))
        if welcome.room in self._rooms:
            self._rooms[welcome.room].mention = None
        if anew:
            self._requests.clear()
            self._ask_for(self._rooms)

    def note(self, activity: events.Activity, room: str | None) -> None:
        """Note what the server tells of a room. ``room`` is the current one."""
        watched = self._rooms.get(activity.room)
        if watched is None or activity.room == room:
            return
        watched.end = Position(activity.epoch, activity.offset)
        if watched.seen is None:
            # It is watched from now on.
            watched.seen = watched.end
        if activity.mention is not None and watched.unread:
            watched.mention = activity.mention

    # What is sent.

    def _ask_for(self, names: Iterable[str]) -> None:
        rooms = tuple(events.WatchedRoom(name, self.place(name)) for name in names)
        if rooms:
            self._requests.append(events.Watch(rooms))

    def next(self, limit: int) -> str | None:
        """The next request to send, of at most ``limit`` bytes if possible; None: there is none."""
        while self._requests:
            request = self._requests.popleft()
            text, rooms = events.encode(request), request.rooms
            if len(rooms) == 1 or len(text.encode()) <= limit:
                return text
            middle = len(rooms) // 2
            for part in (slice(middle, None), slice(middle)):
                smaller = msgspec.structs.replace(request, rooms=rooms[part])
                self._requests.appendleft(smaller)
        if self._unreported:
            room, place = self._unreported.popitem()
            return events.encode(events.Seen(room, place))
        return None


def _position(place: str) -> Position:
    if not PLACE_FORM.fullmatch(place):
        raise ValueError(f"{place[:80]!r} is not EPOCH:OFFSET")
    return position_of(place)
