"""How a client becomes a member of a room, or a follower, with the history that it missed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import msgspec

from ..engine import Candidate, Engine, Position, Tail
from ..errors import EngineFailed, SyncchatError
from .events import Error, FromServer, History, Message, Names, Welcome
from .members import Member
from .nicks import key_of
from .room_settings import RoomSettings

__all__ = ["Entering", "NickTaken", "WantedHistory"]

#: Messages of a piece of the history, at most. The backlog of a connection can hold several.
_PIECE = 1000

#: Seconds in which a client must read a piece of its history.
_PATIENCE = 10.0


class NickTaken(SyncchatError):
    """A client cannot have the nick without which it does not want to enter."""


@dataclass(frozen=True, slots=True)
class WantedHistory:
    """The history that an entering client wants.

    All messages after the position ``after``, or without it the ``last`` messages.
    """

    after: Position | None = None
    last: int = 0


class Entering:
    """The state of a client that enters the room called ``room``.

    ``settings`` has the welcome that is the same for all clients. ``find`` finds the member here
    that has a nick: Redis may have forgotten that. ``strict``: :class:`NickTaken` is raised if the
    client cannot have ``nick``. ``admit`` is called, if it is not None, after
    the client has a nick and before it gets anything. For one thread at a time: the room's
    combiner, and between its steps the client's.
    """

    def __init__(
        self,
        room: str,
        engine: Engine,
        settings: RoomSettings,
        member: Member,
        nick: str | None,
        find: Callable[[str], Member | None],
        wanted: WantedHistory,
        admit: Callable[[], None] | None,
        *,
        strict: bool,
    ) -> None:
        self.member = member
        self._strict = strict and nick is not None
        self._admit = admit
        #: Whether the engine has a nick claimed for it, if it needs one.
        self.claimed = False
        #: Whether nobody had its nick before, such as another device of the same person.
        self.first = True
        #: The events to send to it now.
        self.events: list[FromServer] = []
        #: Whether it is up to date after these events, so that it can become a member.
        self.is_done = False
        #: Whether its history came in several pieces.
        self.in_pieces = False
        #: The names in its welcome, if these are probably right still: no long history follows.
        self._names: list[str] | None = None
        #: The welcome, if it comes last.
        self._late: Welcome | None = None
        #: The epoch in its welcome.
        self._epoch = ""
        self._room = room
        self._engine = engine
        self._settings = settings
        person = member.person
        if person is not None and (nick is None or key_of(nick) == key_of(person.name)):
            nick = person.name
        self._nick = nick
        #: Whether the nick is the name of another person.
        self._reserved = nick is not None and not settings.directory.people.is_free(nick, person)
        self._find = find
        self._wanted = wanted

    @property
    def after(self) -> Position | None:
        """The position after which it wants the history; None: it wants the last messages."""
        return self._wanted.after

    @property
    def admitted(self) -> bool:
        """Whether ``admit`` has let the client in."""
        return self._admit is None

    def complete(self, step: Callable[[], None]) -> None:
        """Take steps until the client is a member. On the client's thread.

        ``step`` calls :meth:`advance` as the room's combiner. Raises what ``admit`` raises, and
        :class:`ConnectionClosed` or :class:`TimeoutError` if the client does not read in time.
        """
        while True:
            step()
            if self.is_done:
                return
            if self._admit is not None:
                self._admit()
                self._admit = None
            # A long history: send it without being the combiner, so that nobody
            # else waits for this client.
            self.member.send(self.events)
            self.member.websocket.flush(_PATIENCE)

    def missed(self, names: Names) -> Sequence[Names]:
        """The names now, if the client has missed joins or leaves since its welcome."""
        return () if names.names == self._names else (names,)

    def advance(self, delivered: Position) -> None:
        """Take the next step: claim a nick, or read the next piece of the history.

        ``delivered`` is the position up to which the members have the log. Raises
        :class:`~syncchat.errors.EngineFailed`.
        """
        wanted = self._wanted
        dialect = self.member.dialect = self.member.dialect.at(delivered.epoch)
        stale = self.claimed and delivered.epoch != self._epoch and self._late is None
        if stale and dialect.has_positions:
            # It would take the offsets of the new log for those of the old one.
            raise EngineFailed("the log of the room has begun anew")
        if self.claimed and wanted.after is not None:
            self.events = []
            self.in_pieces = True
            tail = self._engine.read_after(self._room, wanted.after, _PIECE)
        else:
            names, tail = self._look(delivered) if self.member.follows else self._claim()
            self.claimed = True
            self._names = None if self._admit is None else names
            self._greet(delivered, names)
        tail = _cut(tail, delivered)
        self.is_done = wanted.after is None or tail.reached >= delivered.offset
        if wanted.after is None:
            if wanted.last:
                self.events.append(History(self._shown(tail), complete=True))
        elif tail.messages or not (tail.complete and self.in_pieces):
            self.events.append(History(self._shown(tail), tail.complete))
        if self._admit is not None:
            # What comes meanwhile is another piece.
            self.is_done = False
        reached = delivered.offset if wanted.after is None else tail.reached
        self._wanted = WantedHistory(Position(delivered.epoch, reached))
        if self.is_done and self._late is not None:
            epoch, offset = delivered.epoch, delivered.offset
            self.events.append(msgspec.structs.replace(self._late, epoch=epoch, offset=offset))

    def _shown(self, tail: Tail) -> tuple[Message, ...]:
        rules = self._settings.directory.rules
        return rules.hide(self._room, tail.end.epoch, tail.messages)

    def _look(self, delivered: Position) -> tuple[list[str], Tail]:
        """The names in the room, and the first piece of a follower's history."""
        engine, wanted = self._engine, self._wanted
        names = engine.names(self._room) if self.member.dialect.lists_members else []
        if wanted.after is not None:
            return names, engine.read_after(self._room, wanted.after, _PIECE)
        if not wanted.last:
            return names, Tail((), complete=True, reached=delivered.offset, end=delivered)
        messages = engine.read_before(self._room, None, wanted.last).messages
        end = max([delivered.offset, *(each.offset for each in messages[-1:])])
        return names, Tail(messages, True, end, Position(delivered.epoch, end))

    def _claim(self) -> tuple[list[str], Tail]:
        """Claim a nick. Returns the names in the room, and the first piece of the history."""
        member, wanted = self.member, self._wanted
        try:
            entered = self._engine.enter(
                self._room,
                self._nicks(),
                wanted.after,
                wanted.last if wanted.after is None else _PIECE,
                with_names=member.dialect.lists_members,
            )
        except ValueError as exc:
            raise NickTaken(self._why_not()) from exc
        member.nick, self.first = entered.nick, entered.first
        return entered.names, entered.tail

    def _greet(self, delivered: Position, names: list[str]) -> None:
        member = self.member
        self._epoch = delivered.epoch
        general = self._settings.welcome_to(self._room, member)
        greeting = member.dialect.moved(self._room) if member.greeted else general.greeting
        person, limits = member.person, general.limits
        if person is not None and person.robot:
            limits = msgspec.structs.replace(limits, rate=self._settings.robot_rate)
        welcome = msgspec.structs.replace(
            general,
            nick=member.nick,
            epoch=delivered.epoch,
            offset=delivered.offset,
            members=names,
            greeting="" if member.follows else greeting,
            limits=limits,
            person=None if person is None else person.name,
            places=member.places,
        )
        member.greeted = True
        if member.dialect.welcome_last:
            self._late = welcome
        else:
            self.events.append(welcome)
        if self._nick not in (None, member.nick):
            text = f"{self._why_not()}; you are {member.nick}."
            self.events.append(Error("nick_taken", text, "nick"))

    def _why_not(self) -> str:
        """Why the client does not have the nick that it wants."""
        why = "belongs to somebody else" if self._reserved else "is taken here"
        return f"The nick {self._nick} {why}"

    def _nicks(self) -> Iterator[Candidate]:
        """The nicks to try: the one that it wants, its own name, its address with a number."""
        member, person = self.member, self.member.person
        wanted = [] if self._reserved or self._nick is None else [self._nick]
        own = [] if person is None or self._strict else [person.name]
        for nick in [*wanted, *own]:
            candidate, holder = member.candidate(nick), self._find(nick)
            if holder is None or holder.shares(candidate):
                yield candidate
        if not self._strict:
            yield from map(Candidate, member.addresses())


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
