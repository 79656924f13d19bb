"""Private messages to somebody in another room, or to somebody with a token who is not there."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

from ..engine import Person as Claimant
from ..errors import ConnectionClosed
from ..net import WebSocket
from .events import Away, Done, Error, Forwarded, FromServer, PrivateMessage
from .members import Member
from .nicks import key_of
from .personal import MAX_LETTERS
from .room import Room
from .rooms import RoomRegistry

__all__ = ["deliver_letters", "send_private"]


def send_private(
    rooms: RoomRegistry, room: Room, sender: Member, to: str, text: str
) -> list[FromServer]:
    """Send ``text`` to whoever is called ``to``. Returns what to tell the sender.

    ``room`` is the sender's. Raises :class:`~syncchat.errors.EngineFailed`.
    """
    found: list[Member | Claimant] = []
    room.run(lambda: found.extend(_send_here(rooms, room, sender, to, text)))
    for recipient in found:
        is_away = recipient.away is not None and recipient.nick != sender.nick
        return [Away(recipient.nick, recipient.away or "")] if is_away else []
    places = sorted(name for name in rooms.engine.where(to) if name != room.name)
    if places:
        return _forward(rooms, places, sender, to, text)
    person = rooms.directory.people.named(to)
    if person is None:
        return [Error("absent", f"{to} is not here.", "private")]
    to, key = person.name, key_of(person.name)
    letter = PrivateMessage(sender.nick, to, text, time.time())
    stored = rooms.personal.keep(key, letter)
    if stored is None:
        full = f"{MAX_LETTERS} messages wait for {to} already: yours is not kept."
        return [Error("unavailable", full, "private")]
    places = rooms.engine.where(to)
    if places and rooms.personal.take(key, stored):
        # The person has come meanwhile.
        rooms.personal.settle(key, [stored], arrived=True)
        return _forward(rooms, places, sender, to, text)
    return [Done("private", f"{to} is not here: your message is kept until {to} comes.")]


def _send_here(
    rooms: RoomRegistry, room: Room, sender: Member, to: str, text: str
) -> Sequence[Member | Claimant]:
    """Send it in the sender's room, in its order. Returns the recipient, if it is there."""
    recipient = rooms.find(room.name, to)
    if recipient is None:
        return ()
    rooms.engine.publish(room.name, PrivateMessage(sender.nick, recipient.nick, text, time.time()))
    return [recipient]


def _forward(
    rooms: RoomRegistry, places: list[str], sender: Member, to: str, text: str
) -> list[FromServer]:
    if len(places) > 1 and rooms.directory.people.named(to) is None:
        several = (
            f"There are several called {to}, in {', '.join(places)}: enter one of these rooms."
        )
        return [Error("absent", several, "private")]
    told: list[FromServer] = []
    for place in places:
        if not sender.has_own_name and rooms.find(place, sender.nick) is not None:
            # The recipient would take one for the other, and reply to the other.
            same = f"In {place}, where {to} is, somebody else is called {sender.nick}."
            return [Error("nick_taken", same, "private")]
        found = rooms.find(place, to)
        if found is None:
            continue  # It has just left.
        message = PrivateMessage(sender.nick, found.nick, text, time.time())
        rooms.engine.publish(place, Forwarded(message))
        if not told:
            told.append(message)
            if found.away is not None:
                told.append(Away(found.nick, found.away))
    return told or [Error("absent", f"{to} is not here.", "private")]


def deliver_letters(rooms: RoomRegistry, room: Room, member: Member, websocket: WebSocket) -> None:
    """Send a person who has entered ``room`` the private messages that were kept.

    They are deleted when the client has answered a ping behind them. Raises
    :class:`~syncchat.errors.EngineFailed`.
    """
    if member.person is None:
        return
    key = key_of(member.person.name)
    letters = rooms.personal.take(key)
    if not letters:
        return
    settle = partial(rooms.personal.settle, key, tuple(letters))
    try:
        room.tell(member, *letters.values())
        room.drain()
        member.last_private_from = [each.nick for each in letters.values()][-1]
        pong = websocket.ping()
    except ConnectionClosed:
        settle(arrived=False)
    except BaseException:
        settle(arrived=False)
        raise
    else:
        pong.add_done_callback(lambda done: settle(arrived=done.exception() is None))
