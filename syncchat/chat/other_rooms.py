"""What a client does in rooms that it is not in: watch them, send private messages, see them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from ..errors import BadRoom, EngineFailed, Rejected, RoomsFull
from ..net import WebSocket
from .asked import position_of
from .commands import Reply
from .events import (
    MAX_WATCHED,
    Error,
    FromServer,
    Private,
    Seen,
    Unwatch,
    Watch,
    WatchedRoom,
)
from .hooks import Hooks, Visitor
from .members import Member
from .nicks import key_of
from .private import deliver_letters, send_private
from .room import Room
from .room_names import check_room
from .rooms import RoomRegistry
from .sanitize import clean

__all__ = ["OtherRooms"]


class OtherRooms:
    """For the session of one client, which is ``member``, on the session's thread."""

    def __init__(
        self, rooms: RoomRegistry, member: Member, websocket: WebSocket, hooks: Hooks
    ) -> None:
        self._rooms = rooms
        self._member = member
        self._websocket = websocket
        self._hooks = hooks

    # When the client enters and leaves.

    def prepare(self) -> None:
        """Read the places for the welcome. Raises :class:`EngineFailed`."""
        person = self._member.person
        if person is not None:
            self._member.places = self._rooms.personal.places(key_of(person.name))

    def entered(self, room: Room) -> None:
        """Note that the client has entered a room, and deliver private messages kept for it."""
        if self._member.watcher is not None:
            self._rooms.watches.enter(self._member.watcher, room.name)
        try:
            deliver_letters(self._rooms, room, self._member, self._websocket)
        except EngineFailed as exc:
            room.tell(self._member, _unavailable("private", exc))

    def left(self) -> None:
        """Note that the client is about to leave its room."""
        if self._member.watcher is not None:
            self._rooms.watches.leave(self._member.watcher)

    def end(self) -> None:
        """Watch nothing any more."""
        watcher = self._member.watcher
        if watcher is not None:
            for name in watcher.names:
                self._rooms.unwatch(watcher, name)
            self._rooms.watches.end(watcher)

    # What it asks for.

    @property
    def watches_at_once(self) -> bool:
        """Whether to watch rooms never waits for a disk, a network or a program."""
        return not self._rooms.engine.blocks and self._hooks.on_join is None

    def carry_out(self, asked: Private | Reply | Watch | Unwatch | Seen, here: Room) -> None:
        """Do what the client asks for, which is in the room ``here``, and tell it the outcome."""
        for event in self._outcome(asked, here):
            here.tell(self._member, event)

    def _outcome(
        self, asked: Private | Reply | Watch | Unwatch | Seen, here: Room
    ) -> Iterable[FromServer]:
        match asked:
            case Private():
                return self._send(here, clean(asked.to), clean(asked.text))
            case Reply():
                to = self._member.last_private_from
                if to is None:
                    return [Error("absent", "No private message to reply to.", "reply")]
                return self._send(here, to, clean(asked.text))
            case Watch():
                if self._member.watcher is None:
                    self._rooms.watches.begin(self._member, here.name)
                return self._watch(asked.rooms)
            case Unwatch():
                self._unwatch(asked.rooms)
                return ()
            case Seen():
                return self._see(asked)

    def _send(self, here: Room, to: str, text: str) -> Iterable[FromServer]:
        silence = self._rooms.permits.only_reads(self._websocket.request)
        if silence is not None:
            return [msgspec.structs.replace(silence, command="private")]
        try:
            return send_private(self._rooms, here, self._member, to, text)
        except EngineFailed as exc:
            return [_unavailable("private", exc)]

    def _see(self, asked: Seen) -> Iterable[Error]:
        person = self._member.person
        if person is None:
            text = "The server keeps places only for people with a token of their own."
            return [Error("forbidden", text, "seen")]
        try:
            name = check_room(asked.room)
            if not self._rooms.exists(name):
                raise BadRoom(f"There is no room {name}.")
            self._rooms.personal.see(key_of(person.name), name, asked.place)
        except BadRoom as exc:
            return [Error("room", str(exc), "seen")]
        except EngineFailed as exc:
            return [_unavailable("seen", exc)]
        return ()

    def _watch(self, wanted: Iterable[WatchedRoom]) -> Iterator[Error]:
        watcher = self._member.watcher
        assert watcher is not None
        for each in wanted:
            try:
                name = check_room(each.room)
                if name not in watcher.names:
                    if len(watcher.names) >= MAX_WATCHED:
                        raise BadRoom(f"You can watch at most {MAX_WATCHED} rooms; not {name}.")
                    member = self._member
                    barred = self._rooms.permits.ban(name, member.nick, member.person, member.host)
                    if barred is not None:
                        yield msgspec.structs.replace(barred, command="watch")
                        continue
                    # It gets lines of the room.
                    self._hooks.welcome(Visitor(name, self._member, watches=True))
                after = None if each.after is None else position_of(each.after)
                self._rooms.watch(watcher, name, after)
            except (BadRoom, RoomsFull) as exc:
                yield Error("room", str(exc), "watch")
            except Rejected as exc:
                yield Error("refused", str(exc), "watch")
            except EngineFailed as exc:
                yield _unavailable("watch", exc)

    def _unwatch(self, wanted: Iterable[str]) -> None:
        watcher = self._member.watcher
        for text in wanted:
            try:
                name = check_room(text)
            except BadRoom:
                continue  # It is not watched.
            if watcher is not None and name in watcher.names:
                self._rooms.unwatch(watcher, name)


def _unavailable(command: str, exc: EngineFailed) -> Error:
    return Error("unavailable", f"This is not possible at the moment: {exc}.", command)
