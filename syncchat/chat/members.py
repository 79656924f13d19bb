"""The members of a room: how a client becomes one, and the fan-out of events to all."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import assert_never

import msgspec

from ..closecodes import ABNORMAL, SERVICE_RESTART, TRY_AGAIN_LATER
from ..engine import Appended, Departed, Draft, Engine, Position, Revoked, Tail
from ..errors import AppendUnknown, ConnectionClosed, EngineFailed
from ..net import Deadline, Fanout, WebSocket, encode_frame, format_address
from .dialects import Dialect
from .events import (
    Ack,
    Error,
    FromServer,
    History,
    Joined,
    Left,
    Message,
    Renamed,
    Welcome,
)
from .nicks import is_address

__all__ = ["CLOSE_SECONDS", "Entering", "Member", "Members", "RoomSettings", "WantedHistory"]

#: Messages of a piece of the history, at most. The backlog of a connection can hold several.
_PIECE = 1000

#: Seconds in which a client must answer the Close when its room disconnects it.
CLOSE_SECONDS = 10.0

#: Seconds in which a client must read a piece of its history.
_PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class RoomSettings:
    """The settings that all rooms of a server share."""

    #: The welcome for a new client, without what depends on the room and the client.
    welcome: Welcome
    #: Whether the sender of a message receives it too.
    echo: bool
    #: Called with each stored batch: the seconds from each message's arrival to its delivery.
    on_batch: Callable[[Sequence[float]], None]
    #: Calls a function at a moment, on the I/O thread: the function must not block.
    call_at: Callable[[Deadline, Callable[[], None]], None]


class Member:
    """A client in the rooms of a server; it is in one room at a time.

    ``nick`` and ``address`` are sanitized. Only the room's combiner changes ``nick``. Any
    thread may read every attribute.
    """

    __slots__ = (
        "address",
        "away",
        "dialect",
        "greeted",
        "last_private_from",
        "nick",
        "since",
        "spoke",
        "websocket",
    )

    def __init__(self, websocket: WebSocket, dialect: Dialect) -> None:
        self.websocket = websocket
        self.dialect = dialect
        self.address = format_address(websocket.remote_address)
        self.nick = self.address
        #: Whether it has received the operator's greeting.
        self.greeted = False
        #: When it entered its room, and when it spoke there last; seconds since 1970.
        self.since = time.time()
        self.spoke: float | None = None
        #: Its reason to be away, empty for none; None: it is not away.
        self.away: str | None = None
        #: The sender of the last private message to it.
        self.last_private_from: str | None = None

    @property
    def chosen(self) -> str | None:
        """The nick that it has chosen; None: its nick is its address."""
        return None if is_address(self.nick) else self.nick

    def addresses(self) -> Iterator[str]:
        """The nicks for it if its own is not free: its address, and that with a number."""
        # The address is free, unless an earlier connection from the same port was cut off
        # and its thread has not noticed that yet.
        yield self.address
        for number in count(2):
            yield f"{self.address}#{number}"

    def send(self, events: Iterable[FromServer]) -> None:
        """Send events outside of the room's order: only while it is in no room.

        Raises :class:`ConnectionClosed`.
        """
        frames = self.dialect.encode_all(events, self.nick)
        websocket = self.websocket
        if frames and not websocket.write_frames(b"".join(frames), len(frames)):
            raise ConnectionClosed(websocket.close_code or ABNORMAL, websocket.close_reason or "")


@dataclass(frozen=True, slots=True)
class WantedHistory:
    """The history that an entering client wants.

    All messages after the position ``after``, or without it the ``last`` messages.
    """

    after: Position | None = None
    last: int = 0


class Entering:
    """The state of a client that enters the room called ``room``.

    ``welcome`` has what is the same for all clients; see :class:`RoomSettings`. ``admit`` is
    called, if it is not None, after the client has a nick and before it gets anything.
    For one thread at a time: the room's combiner, and between its steps the client's.
    """

    def __init__(
        self,
        room: str,
        engine: Engine,
        welcome: Welcome,
        member: Member,
        nick: str | None,
        wanted: WantedHistory,
        admit: Callable[[], None] | None,
    ) -> None:
        self.member = member
        self._admit = admit
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
        self._welcome = welcome
        self._nick = nick
        self._wanted = wanted

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

    def advance(self, delivered: Position) -> None:
        """Take the next step: claim a nick, or read the next piece of the history.

        ``delivered`` is the position up to which the members have the log. Raises
        :class:`~syncchat.errors.EngineFailed`.
        """
        wanted = self._wanted
        if self.claimed and wanted.after is not None:
            self.events = []
            self.in_pieces = True
            tail = self._engine.read_after(self._room, wanted.after, _PIECE)
        else:
            tail = self._claim(delivered)
        tail = _cut(tail, delivered)
        self.is_done = wanted.after is None or tail.reached >= delivered.offset
        if wanted.after is None:
            if wanted.last:
                self.events.append(History(tail.messages, complete=True))
        elif tail.messages or not (tail.complete and self.in_pieces):
            self.events.append(History(tail.messages, tail.complete))
        if self._admit is not None:
            # What comes meanwhile is another piece.
            self.is_done = False
        reached = delivered.offset if wanted.after is None else tail.reached
        self._wanted = WantedHistory(Position(delivered.epoch, reached))

    def _claim(self, delivered: Position) -> Tail:
        """Claim a nick and greet the client. Returns the first piece of its history."""
        member, wanted = self.member, self._wanted
        entered = self._engine.enter(
            self._room,
            self._nicks(),
            wanted.after,
            wanted.last if wanted.after is None else _PIECE,
            with_names=member.dialect.lists_members,
        )
        self.claimed = True
        member.nick = entered.nick
        welcome = msgspec.structs.replace(
            self._welcome,
            room=self._room,
            nick=member.nick,
            epoch=delivered.epoch,
            offset=delivered.offset,
            members=entered.names,
            greeting=member.dialect.moved(self._room) if member.greeted else self._welcome.greeting,
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
        yield from self.member.addresses()


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


class Members:
    """The members of a room, and the fan-out of events to them.

    An event is encoded once for all members of a dialect. Only the room's combiner may call
    the methods, except ``len`` and ``find``, which any thread may call.
    """

    def __init__(self, room: str, engine: Engine) -> None:
        self._room = room
        self._engine = engine
        #: By their casefolded nicks, in the order in which they joined.
        self._by_nick: dict[str, Member] = {}
        #: The connections of the members, by the dialects that they use.
        self._fanouts: dict[Dialect, Fanout] = {}

    def __len__(self) -> int:
        return len(self._by_nick)

    def __iter__(self) -> Iterator[Member]:
        return iter(tuple(self._by_nick.values()))

    def find(self, nick: str) -> Member | None:
        """The member of this nick, compared by casefold; None: there is no such member."""
        return self._by_nick.get(nick.casefold())

    def away(self) -> list[str]:
        """The nicks of the members that are away, sorted without regard to case."""
        away = (member.nick for member in self._by_nick.values() if member.away is not None)
        return sorted(away, key=str.casefold)

    def add(self, member: Member) -> None:
        """Add ``member``: it gets every later event."""
        self._by_nick[member.nick.casefold()] = member
        self._fanouts.setdefault(member.dialect, Fanout()).add(member.websocket)

    def discard(self, member: Member) -> None:
        """Remove ``member``. Has no effect if it is not one."""
        self._by_nick.pop(member.nick.casefold(), None)
        fanout = self._fanouts.get(member.dialect)
        if fanout is not None:
            fanout.discard(member.websocket)
            if not fanout:
                del self._fanouts[member.dialect]

    def tell_refused(self, member: Member, drafts: Sequence[Draft], exc: EngineFailed) -> None:
        """Tell a sender that its messages are not stored, or that this is not known."""
        unknown = isinstance(exc, AppendUnknown)
        said = (
            f"It is unknown whether your message was stored: {exc}."
            if unknown
            else f"Your message was not stored; send it again later: {exc}."
        )
        known: Sequence[Appended | None]
        known = [None] * len(drafts) if unknown else self._engine.known(self._room, drafts)
        for draft, answer in zip(drafts, known, strict=True):
            if unknown and draft.nonce is not None:
                # Nothing is to be told: the client comes back and sends the message
                # again, and its nonce shows whether it is stored.
                reason = "it is unknown whether your message was stored"
                member.websocket.begin_close(TRY_AGAIN_LATER, reason, Deadline.after(CLOSE_SECONDS))
                break
            if answer is not None and draft.nonce is not None:
                # It was sent again, and is stored since the first time.
                self.tell_one(member, Ack(draft.nonce, answer.offset))
                continue
            command = "say" if draft.kind == "message" else "action"
            self.tell_one(member, Error("unavailable", said, command, draft.nonce))

    def connected(self) -> int:
        """How many are in the room, on all servers as far as they are known."""
        try:
            return len(self) + self._engine.elsewhere([self._room])[0]
        except EngineFailed:
            return len(self)

    def note_claims(self, change: Departed | Revoked, *, notices: bool) -> None:
        """Tell of people who are gone, and rename members whose nicks others have now.

        ``notices``: whether members are told of such things.
        """
        match change:
            case Departed(nicks):
                # One of them may be back, here.
                gone = [nick for nick in nicks if self.find(nick) is None]
                if gone and notices:
                    reason = None if len(gone) > 1 else "connection lost"
                    self.tell([Left(gone[0], self.connected(), tuple(gone[1:]), reason)])
            case Revoked(nicks):
                for member in [each for nick in nicks if (each := self.find(nick)) is not None]:
                    try:
                        nick = self._engine.claim(self._room, member.addresses())
                        self._rename_revoked(member, nick, notices=notices)
                    except EngineFailed:
                        reason = "another member has your nick"
                        deadline = Deadline.after(CLOSE_SECONDS)
                        member.websocket.begin_close(TRY_AGAIN_LATER, reason, deadline)
            case _:
                assert_never(change)

    def _rename_revoked(self, member: Member, nick: str, *, notices: bool) -> None:
        """Give ``member`` another nick, since a member on another server has its own by now."""
        old = member.nick
        self.rename(member, nick)
        text = f"The nick {old} was given away while this server was cut off; you are {nick}."
        self.tell_one(member, Error("nick_taken", text, "nick"))
        renamed = Renamed(old, nick)
        if notices:
            # The other one is in the room, too.
            self.tell([renamed, Joined(old, self.connected())])
        else:
            self.tell_one(member, renamed)

    def rename(self, member: Member, nick: str) -> None:
        """Give ``member`` another nick."""
        self._by_nick.pop(member.nick.casefold(), None)
        member.nick = nick
        self._by_nick[nick.casefold()] = member

    # The fan-out.

    def tell(self, events: Sequence[FromServer], but: Member | None = None) -> None:
        """Send events to all members but ``but``."""
        for dialect, fanout in self._fanouts.items():
            frames: list[bytes] = []
            for event in events:
                frames += dialect.encode(event, "")
            special = {but.websocket: ()} if but is not None and but.dialect is dialect else None
            for closed in fanout.write(frames, special):
                fanout.discard(closed)

    def tell_others(self, messages: Sequence[Message]) -> None:
        """Send messages to all members; a sender gets an acknowledgement of its own instead."""
        found = (self.find(nick) for nick in {message.nick for message in messages})
        senders = [member for member in found if member is not None]
        for dialect, fanout in self._fanouts.items():
            frames = [dialect.encode(message, "") for message in messages]
            special: dict[WebSocket, list[bytes]] = {}
            for sender in senders:
                if sender.dialect is dialect:
                    own = special[sender.websocket] = []
                    for message, usual in zip(messages, frames, strict=True):
                        if message.nick != sender.nick:
                            own += usual
                        elif message.nonce is not None:
                            own += dialect.encode(Ack(message.nonce, message.offset), "")
            for closed in fanout.write([frame for usual in frames for frame in usual], special):
                fanout.discard(closed)

    def tell_gap(self, messages: Sequence[Message]) -> None:
        """Send messages to all members, if messages before the first one are lost.

        The first one is in a history that is not complete: so clients show the gap.
        """
        self.tell([History(tuple(messages[:1]), complete=False), *messages[1:]])

    def tell_new_epoch(self, messages: Sequence[Message]) -> None:
        """Tell all members that the log has begun anew, so that messages may be lost.

        A client that knows its position must learn the new epoch: it is disconnected, comes
        back with the old position, and is told of the gap then.
        """
        deadline = Deadline.after(CLOSE_SECONDS)
        for member in self:
            if member.dialect.has_positions:
                reason = "the room's log was reset"
                member.websocket.begin_close(SERVICE_RESTART, reason, deadline)
        self.tell_gap(messages)

    def tell_one(self, member: Member, *events: FromServer) -> None:
        """Send events to one member, or to a client that is about to become one."""
        dialect = member.dialect
        self._write_one(member, dialect.encode_all(events, member.nick))

    def send_one(self, member: Member, text: str) -> None:
        """Send one member a text of its dialect."""
        self._write_one(member, [encode_frame(text.encode())])

    @staticmethod
    def _write_one(member: Member, frames: Sequence[bytes]) -> None:
        if frames:
            # If the connection is closed, its session is about to leave.
            member.websocket.write_frames(b"".join(frames), len(frames))
