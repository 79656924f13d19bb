"""The rooms of a server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from ..engine import Delivery, Departed, Draft, Engine, Position, Revoked
from ..engine import Person as Claimant
from ..errors import EngineFailed, NickTaken, RoomsFull
from ..net import Deadline, Request, WebSocket, shown_tokens
from .appends import AppendThread
from .enforcement import Enforcement
from .entering import WantedHistory
from .events import MAX_HISTORY, Kick, LiveFromServer, Message, RoomCount
from .members import Member
from .nicks import SERVER_NICK, is_address, look_of
from .people import Person
from .permits import Permits
from .personal import PersonalRecords
from .room import Room
from .room_names import LOBBY
from .room_settings import RoomSettings
from .watching import Watcher

__all__ = ["RoomRegistry"]

#: Seconds for which a room without users stays after a message from outside.
_LINGER_SECONDS = 1.0


class RoomRegistry:
    """Every room that has members, or for which the engine keeps messages.

    At most ``most`` rooms; :class:`RoomsFull` is raised for one more. Every method may
    be called from any thread.
    """

    def __init__(self, engine: Engine, settings: RoomSettings, most: int) -> None:
        self.engine = engine
        self.directory = settings.directory
        self.personal = PersonalRecords(engine.records)
        self._settings = settings
        self.permits = Permits(settings)
        self.watches = settings.watches
        self._most = most
        #: Guards the fields below, and ``users`` of every room: its members, clients that
        #: enter, and ``used`` blocks. Every client that enters takes this lock, so nothing
        #: that can wait is done under it.
        self._lock = threading.Lock()
        self._rooms: dict[str, Room] = {}
        engine.attach(self._deliver, self._take_live, self._note_claims, self._deliver_own)
        #: The other rooms for which messages are kept, as far as is known here.
        self._kept = set(engine.rooms())
        #: None: the engine blocks nobody for long, or appends room by room.
        self._appends = AppendThread(engine) if engine.blocks and engine.appends_together else None
        self._enforcement = Enforcement(self.directory, self.open_rooms)
        #: The people to whose names and tokens all rooms have been held.
        self._people = self.directory.people
        self.directory.on_change(self._heed_people)
        self.directory.start()

    @property
    def can_post_later(self) -> bool:
        """Whether :meth:`Room.post_later` may be used: nobody waits for a disk or a network."""
        return self._appends is not None or not self.engine.blocks

    def close(self) -> None:
        """End the thread of the rooms, and close the engine. No client may be left."""
        self.personal.close()
        self.engine.interrupt()
        self.directory.close()
        if self._appends is not None:
            self._appends.close()
        self.engine.close()

    def person(self, request: Request) -> Person | None:
        """The person whose token ``request`` shows; None: it is a guest's."""
        return self.directory.people.holder(shown_tokens(request))

    def identify(self, member: Member) -> None:
        """Make ``member``, which is in no room yet, that of the person whose token it shows."""
        websocket = member.websocket
        person = self.person(websocket.request)
        member.be(person, echo=self._settings.echo)
        if person is not None and person.robot and isinstance(websocket, WebSocket):
            websocket.limit_rate(self._settings.robot_rate, self._settings.welcome.limits.burst)

    def enter(
        self,
        name: str,
        member: Member,
        nick: str | None,
        wanted: WantedHistory,
        admit: Callable[[], None] | None = None,
        *,
        strict: bool = False,
    ) -> Room:
        """Add ``member`` to the room, as :meth:`Room.enter`. Raises :class:`RoomsFull` too."""
        room = self._acquire(name)
        try:
            room.enter(member, nick, wanted, admit, strict=strict)
        except BaseException:
            self._release(room)
            raise
        return room

    def leave(self, room: Room, member: Member, reason: str | None = None) -> None:
        """Remove ``member`` from ``room``, which it is in."""
        try:
            room.leave(member, reason)
        finally:
            self._release(room)

    def watch(self, watcher: Watcher, name: str, after: Position | None) -> None:
        """Have a client watch a room, which exists meanwhile; ``after`` is what it has seen.

        Raises :class:`RoomsFull` and :class:`EngineFailed`.
        """
        known = name in watcher.names

        def begin() -> None:
            self.watches.add(watcher, room.name, room.follow(), after)

        room = self._acquire(name)
        try:
            room.run(begin, reads=True)
        except BaseException:
            known = True
            raise
        finally:
            if known:
                self._release(room)

    def unwatch(self, watcher: Watcher, name: str) -> None:
        """Have a client watch a room, which it watches, no more."""
        self.watches.remove(watcher, name)
        self._release(self._rooms[name])

    def say(self, name: str, draft: Draft) -> None:
        """Post a message of the server, or of a sender whose nick must be free.

        Raises :class:`NickTaken` as :meth:`check_free`, and :class:`RoomsFull`.
        """
        with self.used(name) as room:
            if draft.nick != SERVER_NICK:
                self.check_free(room, draft.nick)
            room.post(None, [draft])

    def history(self, name: str, count: int) -> list[Message]:
        """The last messages of a room, as readers may see them, after all that wait are stored.

        Raises as :meth:`counts`, and :class:`RoomsFull`.
        """
        with self.used(name) as room:
            room.drain()
            return list(self.shown(room, self.last(name, count)))

    def last(self, name: str, count: int) -> list[Message]:
        """The last messages of a room, the oldest first. Raises as :meth:`counts`."""
        found: list[Message] = []
        before, complete = None, False
        while len(found) < count and not complete:
            page = self.engine.read_before(name, before, min(count - len(found), MAX_HISTORY))
            found[:0] = page.messages
            before = found[0].offset if found else None
            complete = page.complete or not page.messages
        return found

    def shown(self, room: Room, messages: Sequence[Message]) -> tuple[Message, ...]:
        """Messages of a room that is in use, as readers may see them. Raises as :meth:`counts`."""
        rules = self.directory.rules
        if not rules.redacted(room.name):
            return tuple(messages)
        return rules.hide(room.name, room.position().epoch, messages)

    def kick(self, name: str, nick: str, reason: str, *, spares_operators: bool = False) -> bool:
        """Disconnect the member of this nick, on any server, for good. False: there is none.

        ``spares_operators``: not if it is a server operator. Raises :class:`EngineFailed`.
        """
        kick = Kick(nick, reason, spares_operators)
        with self.used(name) as room:
            here = room.find(nick)
            if here is not None:
                # Also while a shared engine is away.
                room.run(lambda: room.take_live(kick))
            if here is not None and not here.is_shared:
                return True
            # Devices of a person may be on several servers.
            there = self.engine.find(name, nick) is not None
            if there:
                self.engine.publish(name, kick)
            return there or here is not None

    def find(self, name: str, nick: str) -> Member | Claimant | None:
        """Who has the nick in a room, on any server. Raises :class:`EngineFailed`."""
        return self.find_here(name, nick) or self.engine.find(name, nick)

    def find_here(self, name: str, nick: str) -> Member | None:
        """The member of this nick in a room, on this server; None: there is none here."""
        room = self._rooms.get(name)
        return None if room is None else room.find(nick)

    def exists(self, name: str) -> bool:
        """Whether the room is used, or has messages. Raises :class:`EngineFailed`."""
        return name in self._rooms or self.engine.keeps(name)

    def publish(
        self, name: str, draft: Draft, *, person: Person | None, admit: Callable[[Draft], None]
    ) -> Position:
        """Append a message of a sender that is no member, of ``person`` or a guest.

        Returns its position. Raises :class:`NickTaken` as :meth:`check_free`. ``admit`` is called
        before the message is appended, and may raise an exception. Raises :class:`RoomsFull` and
        :class:`EngineFailed`.
        """
        room = self._acquire(name)
        done = False
        try:
            self.check_free(room, draft.nick, person)
            admit(draft)
            # That may have taken long.
            self.check_free(room, draft.nick, person, here=True)
            position = room.publish(draft)
            done = True
        finally:
            self._release(room, lingers=done and not self.engine.blocks)
        return position

    def check_free(
        self, room: Room, nick: str, person: Person | None = None, *, here: bool = False
    ) -> None:
        """Raise :class:`NickTaken` if a message must not be from ``nick``.

        It is the name of another person, or a member has it, or one that looks like it; ``here``:
        look for members on this server only. The sender's own name or address is free.
        """
        if is_address(nick) or (person is not None and nick == person.name):
            return
        if not self.directory.people.is_free(nick, person):
            raise NickTaken(f"The nick {nick} belongs to somebody else.")
        if room.find(nick, like=True) or (
            not here and self.engine.find(room.name, nick, look_of(nick)) is not None
        ):
            raise NickTaken(f"The nick {nick} is taken here.")

    @contextmanager
    def used(self, name: str) -> Iterator[Room]:
        """The room, which exists while the ``with`` block lasts. Raises :class:`RoomsFull`."""
        room = self._acquire(name)
        try:
            yield room
            # Another thread may be the combiner and still deliver posts of the block. Wait
            # for it: after the release, the name may belong to a new Room.
            room.drain()
        finally:
            self._release(room)

    def counts(self) -> tuple[RoomCount, ...]:
        """Every room and its number of members, sorted by name.

        Raises :class:`~syncchat.errors.EngineFailed`.
        """
        kept = self.engine.rooms()
        with self._lock:
            rooms = dict(self._rooms)
        names = sorted({*kept, *rooms})
        return tuple(
            RoomCount(name, there + (len(rooms[name]) if name in rooms else 0))
            for name, there in zip(names, self.engine.elsewhere(names), strict=True)
        )

    def open_rooms(self) -> list[Room]:
        """The rooms that have members or other users here."""
        with self._lock:
            return list(self._rooms.values())

    def _acquire(self, name: str) -> Room:
        room = self._find_or_make(name)
        if room is None:
            self._forget_rooms()
            room = self._find_or_make(name)
            if room is None:
                raise RoomsFull(f"The server has reached its limit of {self._most} rooms.")
        return room

    def _find_or_make(self, name: str) -> Room | None:
        """The room, with one more user. None: there are too many rooms to make it."""
        with self._lock:
            room = self._rooms.get(name)
            if room is None:
                # The lobby can be entered even when there are too many rooms.
                full = name != LOBBY and len(self._rooms) + len(self._kept) >= self._most
                if full and name not in self._kept:
                    return None
                room = self._rooms[name] = Room(name, self.engine, self._settings, self._appends)
                self._kept.discard(name)
            room.users += 1
            return room

    def _forget_rooms(self) -> None:
        """Forget rooms for which no messages are kept any more."""
        with self._lock:
            before = frozenset(self._kept)
        still = set(self.engine.rooms())
        with self._lock:
            # A room that has come to _kept meanwhile stays.
            self._kept -= before - still

    def _release(self, room: Room, *, lingers: bool = False) -> None:
        """Count one user less, and end the room without users, now or after a moment.

        To end a room and to make it again for the next message takes as long as the message.
        """
        with self._lock:
            room.users -= 1
            if room.users or room.lingers:
                return
            room.lingers = lingers
        if lingers:
            moment = Deadline.after(_LINGER_SECONDS)
            self._settings.call_at(moment, lambda: room.run_later(lambda: self._end_quiet(room)))
        else:
            room.run(lambda: self._end(room))

    def _end_quiet(self, room: Room) -> None:
        """End a room that has lingered. On its combiner's thread; the engine does not block."""
        with self._lock:
            # If there is a user, it ends the room.
            room.lingers = False
        self._end(room)

    def _end(self, room: Room) -> None:
        """Remove a room without users; on its combiner's thread.

        Clients that enter the room meanwhile wait in its queue, and no other room waits.
        """
        if not self._is_unused(room):
            return
        room.unfollow()
        try:
            kept = self.engine.keeps(room.name)
        except EngineFailed:
            # Unknown, so assume that messages are kept.
            kept = True
        with self._lock:
            # If a client has come meanwhile, its own step follows the room again.
            if not room.users:
                del self._rooms[room.name]
                if kept:
                    self._kept.add(room.name)

    def _is_unused(self, room: Room) -> bool:
        with self._lock:
            return not room.users and self._rooms.get(room.name) is room

    def _heed_people(self) -> None:
        """Hold the members of all rooms to the people as they are now. On any thread."""
        people = self.directory.people
        if people is not self._people:
            self._people = people
            with self._lock:
                rooms = tuple(self._rooms.values())
            for room in rooms:
                room.heed_people()

    # The engine's callbacks.

    def _deliver(self, name: str, delivery: Delivery) -> None:
        room = self._rooms.get(name)
        if room is not None:
            room.deliver(delivery)

    def _deliver_own(self, name: str, delivery: Delivery) -> bool:
        room = self._rooms.get(name)
        return room is not None and room.deliver_own(delivery)

    def _take_live(self, name: str, event: LiveFromServer) -> None:
        room = self._rooms.get(name)
        if room is not None:
            room.take_live(event)

    def _note_claims(self, name: str, change: Departed | Revoked) -> None:
        room = self._rooms.get(name)
        if room is not None:
            room.note_claims(change)
