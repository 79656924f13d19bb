"""How members of a room get other nicks: by their wish, or since a nick is a person's name now."""

from __future__ import annotations

from collections.abc import Callable

from ..closecodes import TRY_AGAIN_LATER
from ..engine import Candidate, Engine
from ..errors import EngineFailed
from ..net import Deadline
from .events import Error, Joined, Left, Renamed
from .members import CLOSE_SECONDS, Member, Members
from .nicks import key_of
from .presence_batch import PresenceBatch
from .room_settings import RoomSettings

__all__ = ["Renames"]


class Renames:
    """Only the combiner of the room called ``room`` may call the methods.

    ``announce`` tells all servers that somebody has joined or left.
    """

    def __init__(
        self,
        room: str,
        engine: Engine,
        settings: RoomSettings,
        members: Members,
        presence: PresenceBatch,
        announce: Callable[[Joined | Left], None],
    ) -> None:
        self._room = room
        self._engine = engine
        self._settings = settings
        self._members = members
        self._presence = presence
        self._announce = announce

    def ask(self, member: Member, nick: str) -> None:
        """Give ``member`` the nick that it asks for, or tell it why not.

        Raises :class:`~syncchat.errors.EngineFailed`.
        """
        person = member.person
        if person is not None and key_of(nick) == key_of(person.name):
            nick = person.name
        if nick == member.nick:
            return
        if not self._settings.directory.people.is_free(nick, person):
            why = "belongs to somebody else"
        elif not self._take(member, member.candidate(nick)):
            why = "is taken here"
        else:
            return
        self._members.tell_one(member, Error("nick_taken", f"The nick {nick} {why}.", "nick"))

    def heed_people(self, member: Member) -> None:
        """Hold ``member`` to the people as they are now.

        It is disconnected if its token is not valid any more, and renamed if its nick has become
        the name of another person.
        """
        people, person = self._settings.directory.people, member.person
        if person is not None:
            current = people.current(person)
            if current is None:
                error = Error("refused", "Your token is not valid any more.")
                self._members.close(member, error, "your token is not valid any more")
                return
            member.person = current
        if member.chosen is None or people.is_free(member.nick, person):
            return
        old = member.nick
        try:
            any(self._take(member, Candidate(address)) for address in member.addresses())
        except EngineFailed:
            reason = "your nick belongs to somebody else now"
            deadline = Deadline.after(CLOSE_SECONDS)
            member.websocket.begin_close(TRY_AGAIN_LATER, reason, deadline)
        else:
            text = f"The nick {old} belongs to somebody else now; you are {member.nick}."
            self._members.tell_one(member, Error("nick_taken", text, "nick"))

    def _take(self, member: Member, new: Candidate) -> bool:
        """Give ``member`` another nick, and tell the others. False: it is taken."""
        old, was_shared, holder = member.nick, member.is_shared, self._members.find(new.nick)
        if holder not in {None, member} and not (holder and holder.shares(new)):
            return False
        # Another device of its person may have the new name, or keep the old one.
        joins = bool(new.owner) and self._is_held(new.nick)
        if not self._engine.rename(self._room, old, new):
            return False
        self._presence.tell()
        self._members.rename(member, new.nick)
        stays = was_shared and self._is_held(old)
        notices = self._settings.welcome.notices
        renamed = Renamed(old, new.nick)
        if joins or stays or not notices:
            self._members.tell_one(member, renamed)
        else:
            self._engine.publish(self._room, renamed)
        if joins != stays and notices:
            self._announce(Joined(new.nick, 0) if stays else Left(old, 0))
        return True

    def _is_held(self, nick: str) -> bool:
        held = self._members.find(nick) or self._engine.find(self._room, nick)
        return held is not None
