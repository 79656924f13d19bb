"""The answers to what a client asks about its room: its history, and the people in it."""

from __future__ import annotations

from contextlib import suppress

from ..errors import RoomsFull
from .events import Error, FromServer, History, HistoryRequest, Whois
from .members import Member
from .room import Room
from .rooms import RoomRegistry

__all__ = ["past", "search", "whois"]

#: Words of a search, at most.
_MOST_WORDS = 16

# The functions raise :class:`~syncchat.errors.EngineFailed`.


def past(rooms: RoomRegistry, room: Room, asked: HistoryRequest) -> FromServer:
    """Messages of the history."""
    page = rooms.engine.read_before(room.name, asked.before, asked.limit)
    return History(rooms.shown(room, page.messages), page.complete, "history")


def search(rooms: RoomRegistry, room: Room, words: str, limit: int) -> FromServer:
    """Messages that contain all ``words``, but for those that are hidden."""
    if len(words.split()) > _MOST_WORDS:
        return Error("too_big", f"A search must have at most {_MOST_WORDS} words.", "search")
    found = rooms.engine.search(room.name, words, limit)
    shown = rooms.shown(room, found[::-1])
    visible = tuple(each for each in shown if each.kind in ("message", "action"))
    return History(visible, len(found) < limit, "search")


def whois(rooms: RoomRegistry, room: Room, nick: str) -> FromServer:
    """Details about the member of this nick: of this room, or else of another one."""
    places = sorted(rooms.engine.where(nick))
    here = room.name in places or room.find(nick) is not None
    name = room.name if here or not places else places[0]
    with suppress(RoomsFull), rooms.used(name) as there:
        # It may be about to become a member there.
        there.drain()
    found = rooms.find(name, nick)
    if found is None:
        return Error("absent", f"{nick} is not here.", "whois")
    # A reserved name is only ever that of its person.
    person = found.person if isinstance(found, Member) else rooms.directory.people.named(nick)
    return Whois(
        found.nick,
        found.since,
        found.spoke,
        found.away,
        tuple(places),
        person is not None,
        rooms.directory.rules.is_operator(person, room.name),
    )
