"""The rooms of a server: which there are, and what they are called."""

from __future__ import annotations

import re
import threading
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from urllib.parse import unquote

from ..engine import Engine, EngineFailed, Entry
from ..errors import RoomsFull
from .events import RoomCount
from .history import Past
from .member import Member
from .room import Room
from .settings import RoomSettings

__all__ = ["LOBBY", "MAX_ROOM", "BadRoom", "Rooms", "check_room", "room_of", "valid_names"]

#: The room at the path ``/``.
LOBBY = "lobby"

#: Characters of a room's name.
MAX_ROOM = 64

#: Characters of a text that may come to a name once it is normalized.
_LONGEST = 4 * MAX_ROOM

#: What of ASCII a URL's path does not carry without percent-encoding (RFC 3986, ``pchar``).
_ENCODED_ASCII = re.compile(r"[^\w\-.~!$&'()*+,;=:@]", re.ASCII)


class BadRoom(ValueError):
    """A text that cannot be a room's name; the message says why."""


def room_of(path: str) -> str:
    """The room that a URL's path names: ``/`` is ``lobby``, ``/ops`` and ``/ops/`` are ``ops``.

    Raises :class:`BadRoom`.
    """
    encoded = path.removeprefix("/").removesuffix("/")
    if not encoded:
        return LOBBY
    try:
        return check_room(unquote(encoded, errors="strict"))
    except UnicodeDecodeError:
        raise BadRoom("The URL's path is not in UTF-8.") from None


def check_room(text: str) -> str:
    """The name of the room that ``text`` asks for. Raises :class:`BadRoom`.

    Blanks around it, and then every ``#`` in front, are dropped. Names are compared by
    casefold and in normal form C, and what is compared is the room's name: so it is the
    same in every URL, in the log and in the engine.
    """
    if len(text) > _LONGEST:
        # First: to normalize takes long where somebody means it to.
        raise BadRoom(f"A room's name has at most {MAX_ROOM} characters.")
    name = _folded(text)
    if not name:
        raise BadRoom("A room's name has at least one character.")
    if name in (".", ".."):
        raise BadRoom(f"A room cannot be called {name}, which no URL can name.")
    for char in name:
        if char.isspace():
            raise BadRoom("A room's name is one word: it has no blanks.")
        if not _is_plain(char):
            shown = char if char.isprintable() else f"U+{ord(char):04X}"
            raise BadRoom(f"A room's name cannot contain {shown}.")
    if len(name) > MAX_ROOM:
        raise BadRoom(f"A room's name has at most {MAX_ROOM} characters.")
    return name


def valid_names(old: str) -> Iterator[str]:
    """The names that a room of an earlier version may have now, without end, the best first.

    That is its own name where it is still valid.
    """
    kept = "".join(char if _is_plain(char) else "-" for char in _folded(old))[:MAX_ROOM]
    name = LOBBY if kept in ("", ".", "..") else kept
    yield name
    for number in count(2):
        suffix = f"-{number}"
        yield name[: MAX_ROOM - len(suffix)] + suffix


def _folded(text: str) -> str:
    """``text`` as names are compared; the same again where it is folded already."""
    name = unicodedata.normalize("NFC", text.strip().lstrip("#"))
    return unicodedata.normalize("NFC", name.casefold())


def _is_plain(char: str) -> bool:
    """Whether it may stand in a name: a URL carries it as it is, or in UTF-8, and it is seen."""
    return not _ENCODED_ASCII.match(char) if char.isascii() else char.isprintable()


class Rooms:
    """Every room with somebody in it, or for which the engine keeps something. From any thread.

    There are ``most`` of them; :class:`RoomsFull` is raised for one more.
    """

    def __init__(self, engine: Engine, settings: RoomSettings, most: int) -> None:
        self.engine = engine
        self._settings = settings
        self._most = most
        #: Guards the fields below, and that a room in ``_rooms`` is used. Before
        #: the engine's locks in the lock order.
        self._lock = threading.Lock()
        self._rooms: dict[str, Room] = {}
        #: How many use each of them: its members, and who is on the way in.
        self._users: dict[str, int] = {}
        #: The others for which something is kept, as far as is known here.
        self._kept = set(engine.rooms())
        engine.attach(self._deliver, self._take_live)

    def enter(self, name: str, member: Member, nick: str | None, past: Past) -> Room:
        """Let ``member`` into the room, as :meth:`Room.enter`. Raises :class:`RoomsFull`, too."""
        room = self._acquire(name)
        try:
            room.enter(member, nick, past)
        except BaseException:
            self._release(room)
            raise
        return room

    def leave(self, room: Room, member: Member, reason: str | None = None) -> None:
        """Let ``member`` out of the room that it is in."""
        try:
            room.leave(member, reason)
        finally:
            self._release(room)

    @contextmanager
    def used(self, name: str) -> Iterator[Room]:
        """The room, there at least while the ``with`` block lasts. Raises :class:`RoomsFull`."""
        room = self._acquire(name)
        try:
            yield room
            # What was said in it is not in another thread's hand any more, for
            # which the name might soon be another room's.
            room.drain()
        finally:
            self._release(room)

    def counts(self) -> tuple[RoomCount, ...]:
        """Every room and how many are in it, in the order of the alphabet.

        Raises :class:`~syncchat.engine.EngineFailed`.
        """
        kept = self.engine.rooms()
        with self._lock:
            rooms = dict(self._rooms)
        return tuple(
            RoomCount(name, len(rooms[name]) if name in rooms else 0)
            for name in sorted({*kept, *rooms})
        )

    def _acquire(self, name: str) -> Room:
        with self._lock:
            room = self._rooms.get(name)
            if room is None:
                # The lobby, which needs no name, is there for everybody.
                full = name != LOBBY and self._count_locked() >= self._most
                if name not in self._kept and full:
                    self._forget_locked()
                    if self._count_locked() >= self._most:
                        raise RoomsFull(f"There are {self._most} rooms, and can be no more.")
                room = self._rooms[name] = Room(name, self.engine, self._settings)
                self._kept.discard(name)
            self._users[name] = self._users.get(name, 0) + 1
            return room

    def _forget_locked(self) -> None:
        """Let go of rooms for which nothing is kept any more."""
        still = set(self.engine.rooms())
        for name in self._kept - still:
            self.engine.forget(name)
        self._kept = still - self._rooms.keys()

    def _count_locked(self) -> int:
        return len(self._rooms) + len(self._kept)

    def _release(self, room: Room) -> None:
        name = room.name
        with self._lock:
            self._users[name] -= 1
            if self._users[name]:
                return
            del self._users[name], self._rooms[name]
            try:
                # Under the lock: who enters now begins the room's new life, if
                # it is to have one.
                self.engine.forget(name)
                kept = self.engine.keeps(name)
            except EngineFailed:
                # It says so itself; what is there, stays.
                kept = True
            if kept:
                self._kept.add(name)

    # The engine's callbacks.

    def _deliver(self, name: str, entries: Sequence[Entry]) -> None:
        room = self._rooms.get(name)
        if room is not None:
            room.deliver(entries)

    def _take_live(self, name: str, event: str) -> None:
        room = self._rooms.get(name)
        if room is not None:
            room.take_live(event)
