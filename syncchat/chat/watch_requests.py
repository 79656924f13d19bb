"""What a client asks for about the rooms that it is not in: to watch them, or no more."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..errors import BadRoom, EngineFailed, Rejected, RoomsFull
from .asked import position_of
from .events import MAX_WATCHED, Error, Unwatch, Watch, WatchedRoom
from .hooks import Hooks, Visitor
from .members import Member
from .rooms import RoomRegistry, check_room

__all__ = ["WatchRequests"]


class WatchRequests:
    """Those of one client, which is ``member``. For its session's thread."""

    def __init__(self, rooms: RoomRegistry, member: Member, hooks: Hooks) -> None:
        self._rooms = rooms
        self._member = member
        self._hooks = hooks

    def carry_out(self, asked: Watch | Unwatch, here: str) -> Iterable[Error]:
        """Do what the client asks for in the room ``here``. Returns an error for each bad room."""
        if isinstance(asked, Unwatch):
            self._unwatch(asked.rooms)
            return ()
        if self._member.watcher is None:
            self._rooms.watches.begin(self._member, here)
        return self._watch(asked.rooms)

    def left(self) -> None:
        """Note that the client is about to leave its room."""
        if self._member.watcher is not None:
            self._rooms.watches.leave(self._member.watcher)

    def entered(self, here: str) -> None:
        """Note that the client has entered a room."""
        if self._member.watcher is not None:
            self._rooms.watches.enter(self._member.watcher, here)

    def end(self) -> None:
        """Watch nothing any more."""
        watcher = self._member.watcher
        if watcher is not None:
            for name in watcher.names:
                self._rooms.unwatch(watcher, name)
            self._rooms.watches.end(watcher)

    def _watch(self, wanted: Iterable[WatchedRoom]) -> Iterator[Error]:
        watcher = self._member.watcher
        assert watcher is not None
        for each in wanted:
            try:
                name = check_room(each.room)
                if name not in watcher.names:
                    if len(watcher.names) >= MAX_WATCHED:
                        raise BadRoom(f"You can watch at most {MAX_WATCHED} rooms; not {name}.")
                    # It gets lines of the room.
                    self._hooks.welcome(Visitor(name, self._member, watches=True))
                after = None if each.after is None else position_of(each.after)
                self._rooms.watch(watcher, name, after)
            except (BadRoom, RoomsFull) as exc:
                yield Error("room", str(exc), "watch")
            except Rejected as exc:
                yield Error("refused", str(exc), "watch")
            except EngineFailed as exc:
                text = f"{name} cannot be watched at the moment: {exc}."
                yield Error("unavailable", text, "watch")

    def _unwatch(self, wanted: Iterable[str]) -> None:
        watcher = self._member.watcher
        for text in wanted:
            try:
                name = check_room(text)
            except BadRoom:
                continue  # It is not watched.
            if watcher is not None and name in watcher.names:
                self._rooms.unwatch(watcher, name)
