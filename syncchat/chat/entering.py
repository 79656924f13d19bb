"""A client that enters a room: its nick, its welcome, and its history in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from ..engine import Engine, Position, Tail
from .events import Error, FromServer, History, Welcome
from .members import Member
from .settings import RoomSettings

__all__ = ["Entering", "Past"]

#: Messages of a piece of the history, at most. The backlog of a connection can hold several.
_PIECE = 1000


@dataclass(frozen=True, slots=True)
class Past:
    """The history that an entering client wants.

    All messages after the position ``after``, or without it the ``last`` messages.
    """

    after: Position | None = None
    last: int = 0


class Entering:
    """The state of a client that enters the room called ``room``.

    For one thread at a time: the room's combiner, and between its steps the client's.
    """

    def __init__(
        self,
        room: str,
        engine: Engine,
        settings: RoomSettings,
        member: Member,
        nick: str | None,
        past: Past,
    ) -> None:
        self.member = member
        #: Whether the engine has a nick claimed for it.
        self.claimed = False
        #: The events to send to it now.
        self.events: list[FromServer] = []
        #: Whether it is up to date after these events, so that it can become a member.
        self.is_done = False
        #: Whether its history came in several pieces.
        self.in_pieces = False
        self._room = room
        self._engine = engine
        self._settings = settings
        self._nick = nick
        self._past = past

    def advance(self, delivered: Position) -> None:
        """Take the next step: claim a nick, or read the next piece of the history.

        ``delivered`` is the position up to which the members have the log. Raises
        :class:`~syncchat.errors.EngineFailed`.
        """
        past = self._past
        if self.claimed and past.after is not None:
            self.events = []
            self.in_pieces = True
            tail = self._engine.read_after(self._room, past.after, _PIECE)
        else:
            tail = self._claim(delivered)
        tail = _cut(tail, delivered)
        self.is_done = past.after is None or tail.reached >= delivered.offset
        if past.after is not None:
            self.events.append(History(tail.messages, tail.complete))
            self._past = Past(Position(delivered.epoch, tail.reached))
        elif past.last:
            self.events.append(History(tail.messages, complete=True))

    def _claim(self, delivered: Position) -> Tail:
        """Claim a nick and greet the client. Returns the first piece of its history."""
        member, past, settings = self.member, self._past, self._settings
        entered = self._engine.enter(
            self._room,
            self._nicks(),
            past.after,
            past.last if past.after is None else _PIECE,
            with_names=member.dialect.lists_members,
        )
        self.claimed = True
        member.nick = entered.nick
        welcome = Welcome(
            self._room,
            member.nick,
            delivered.epoch,
            delivered.offset,
            entered.names,
            settings.version,
            settings.limits,
            settings.format,
            member.dialect.moved(self._room) if member.greeted else settings.greeting,
            settings.notices,
        )
        self.events.append(welcome)
        member.greeted = True
        if self._nick not in (None, member.nick):
            text = f"The nick {self._nick} is taken here; you are {member.nick}."
            self.events.append(Error("nick_taken", text, "nick"))
        return entered.tail

    def _nicks(self) -> Iterator[str]:
        """The nicks to try: its nick, its address, and its address with a number."""
        if self._nick is not None:
            yield self._nick
        # The address is free, unless an earlier connection from the same port was cut off
        # and its thread has not noticed that yet.
        address = self.member.address
        yield address
        for number in count(2):
            yield f"{address}#{number}"


def _cut(tail: Tail, delivered: Position) -> Tail:
    """``tail`` without the messages that the room has still to deliver.

    A shared engine may read messages of other servers before it delivers them.
    """
    if tail.end == delivered:
        return tail
    if tail.end.epoch != delivered.epoch:
        # The log has begun anew, and the room is about to be told.
        return Tail((), complete=False, reached=delivered.offset, end=delivered)
    messages = tuple(each for each in tail.messages if each.offset <= delivered.offset)
    return Tail(messages, tail.complete, min(tail.reached, delivered.offset), delivered)
