"""The members of a room: how a client becomes one, and the fan-out of events to all."""

from __future__ import annotations

import hashlib
import re
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, count
from typing import assert_never

from ..closecodes import (
    ABNORMAL,
    MAX_REASON,
    POLICY_VIOLATION,
    SERVICE_RESTART,
    TRY_AGAIN_LATER,
)
from ..engine import Appended, Candidate, Departed, Draft, Engine, Position, Revoked
from ..errors import AppendUnknown, ConnectionClosed, EngineFailed
from ..net import (
    Deadline,
    Fanout,
    Follower,
    Request,
    WebSocket,
    encode_frame,
    format_address,
)
from .dialects import Dialect
from .events import (
    Ack,
    Error,
    Forwarded,
    FromServer,
    History,
    Joined,
    Kick,
    Left,
    LiveFromServer,
    Message,
    Names,
    PrivateMessage,
    Renamed,
)
from .nicks import is_address, key_of, look_of
from .people import Person
from .watching import Watcher, Watches

__all__ = ["CLOSE_SECONDS", "Member", "Members"]

#: Seconds in which a client must answer the Close when its room disconnects it.
CLOSE_SECONDS = 10.0

#: The owner of the claims for a person's reserved name.
_PERSON = "person"

#: The secret of a browser: long enough that nobody guesses it.
_SECRET = re.compile(r"[A-Za-z0-9_-]{16,64}")

#: Messages of a device that may be on their way back to it at a time.
_SENT = 1000


class Member:
    """A client in the rooms of a server; it is in one room at a time.

    ``nick`` and ``address`` are sanitized. Only the room's combiner changes ``nick`` and
    ``dialect``. Any thread may read every attribute. A :class:`Follower` has no nick: nobody is
    told that it is there.
    """

    __slots__ = (
        "address",
        "away",
        "browser",
        "dialect",
        "follows",
        "greeted",
        "last_private_from",
        "nick",
        "person",
        "places",
        "sent",
        "since",
        "spoke",
        "watcher",
        "websocket",
    )

    def __init__(self, websocket: WebSocket | Follower, dialect: Dialect) -> None:
        self.websocket = websocket
        self.dialect = dialect
        self.address = format_address(websocket.remote_address)
        self.follows = isinstance(websocket, Follower)
        self.nick = "" if self.follows else self.address
        #: The person whose token it has shown; None: it is a guest.
        self.person: Person | None = None
        #: The same for all tabs of a browser; empty: it has shown none.
        self.browser = _browser_of(websocket.request)
        #: The nonces and texts that it has sent, and that are not stored yet, if a sender does not
        #: get its messages and others may have the same nick: see :attr:`is_shared`.
        self.sent: deque[tuple[str | None, str]] | None = None
        #: The last position that this person has seen in each room, when it entered.
        self.places: dict[str, str] = {}
        #: It as a watcher of other rooms; None: it watches none.
        #: Guarded by the lock of :class:`Watches`; its session may read it, too.
        self.watcher: Watcher | None = None
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
    def host(self) -> str:
        """The address of its machine."""
        return self.websocket.remote_address[0]

    @property
    def chosen(self) -> str | None:
        """The nick that it has chosen; None: its nick is its address."""
        return None if is_address(self.nick) else self.nick

    @property
    def has_own_name(self) -> bool:
        """Whether its nick is the reserved name of its person."""
        return self.person is not None and key_of(self.person.name) == key_of(self.nick)

    @property
    def is_shared(self) -> bool:
        """Whether others may have its nick: devices of its person, or tabs of its browser."""
        return bool(self.candidate(self.nick).owner)

    def be(self, person: Person | None, *, echo: bool) -> None:
        """Make it a device of ``person``, whose token it has shown; None: a guest.

        Before it enters a room. ``echo``: whether it will get its own messages.
        """
        self.person = person
        others = person is not None or self.browser
        self.sent = deque(maxlen=_SENT) if others and not echo else None

    def candidate(self, nick: str) -> Candidate:
        """The claim for a nick that it has chosen, or for its address."""
        if is_address(nick):
            return Candidate(nick)
        person = self.person
        own = person is not None and key_of(person.name) == key_of(nick)
        return Candidate(nick, look_of(nick), _PERSON if own else self.browser)

    def shares(self, candidate: Candidate) -> bool:
        """Whether another member may have its nick, too, by this claim."""
        return bool(candidate.owner) and candidate.owner == self.candidate(self.nick).owner

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


class Members:
    """The members of a room, and the fan-out of events to them.

    An event is encoded once for all members of a dialect. Only the room's combiner may call
    the methods, except ``len`` and ``find``, which any thread may call.
    """

    def __init__(self, room: str, engine: Engine, watches: Watches) -> None:
        self._room = room
        self._watches = watches
        self._engine = engine
        #: By the keys of their nicks, in the order in which they joined; of a person with several
        #: devices, the first one.
        self._by_nick: dict[str, Member] = {}
        #: The further devices of a person, by the keys of their nicks.
        self._devices: dict[str, list[Member]] = {}
        #: The keys of chosen nicks by what these look like.
        self._by_look: dict[str, str] = {}
        self._followers: set[Member] = set()
        #: The connections of the members and followers, by the dialects that they use.
        self._fanouts: dict[Dialect, Fanout[WebSocket | Follower]] = {}

    def __len__(self) -> int:
        return len(self._by_nick)

    def __bool__(self) -> bool:
        """Whether anybody gets the events."""
        return bool(self._by_nick or self._followers)

    def __iter__(self) -> Iterator[Member]:
        further = chain.from_iterable(tuple(self._devices.values()))
        return iter((*self._by_nick.values(), *further, *self._followers))

    def find(self, nick: str) -> Member | None:
        """The member of this nick, compared by casefold; None: there is no such member."""
        return self._by_nick.get(key_of(nick))

    def find_like(self, nick: str) -> Member | None:
        """The member of this nick, or of one that looks like it."""
        found = self.find(nick)
        if found is None and self._by_look:
            key = self._by_look.get(look_of(nick))
            found = None if key is None else self._by_nick.get(key)
        return found

    def devices(self, nick: str) -> Sequence[Member]:
        """The members of this nick: more than one if they are devices of one person."""
        key = key_of(nick)
        first = self._by_nick.get(key)
        return () if first is None else (first, *self._devices.get(key, ()))

    def names(self) -> Names:
        """Who is in the room, on all servers, and who of them is away.

        Raises :class:`~syncchat.errors.EngineFailed`.
        """
        own = (each.nick for each in self._by_nick.values() if each.away is not None)
        away = {*own, *self._engine.away_nicks(self._room)}
        return Names(self._engine.names(self._room), sorted(away, key=str.casefold))

    def add(self, member: Member) -> None:
        """Add ``member``: it gets every later event."""
        if member.follows:
            self._followers.add(member)
        else:
            self._note(member)
        self._fanouts.setdefault(member.dialect, Fanout()).add(member.websocket)

    def discard(self, member: Member) -> None:
        """Remove ``member``. Has no effect if it is not one."""
        if member.follows:
            self._followers.discard(member)
        else:
            self._forget(member)
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
                self.tell_one(member, Ack(draft.nonce, answer.offset, answer.epoch))
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
                for member in [each for nick in nicks for each in self.devices(nick)]:
                    try:
                        free = map(Candidate, member.addresses())
                        nick = self._engine.claim(self._room, free)
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
        self._forget(member)
        member.nick = nick
        self._note(member)
        self._watches.note_nick(member)

    def note_news(self, end: Position, messages: Sequence[Message]) -> None:
        """Note that the log has grown, or has begun anew, for those who watch the room."""
        self._watches.note(self._room, end, messages)

    def _note(self, member: Member) -> None:
        key = key_of(member.nick)
        if self._by_nick.setdefault(key, member) is not member:
            self._devices.setdefault(key, []).append(member)
        elif member.chosen is not None:
            self._by_look[look_of(member.nick)] = key

    def _forget(self, member: Member) -> None:
        key = key_of(member.nick)
        further = self._devices.get(key, [])
        if self._by_nick.get(key) is member:
            if further:
                self._by_nick[key] = further.pop(0)
            else:
                del self._by_nick[key]
                if member.chosen is not None:
                    self._by_look.pop(look_of(member.nick), None)
        elif member in further:
            further.remove(member)
        if not further:
            self._devices.pop(key, None)

    # The fan-out.

    def tell(self, events: Sequence[FromServer], but: Member | None = None) -> None:
        """Send events to all members but ``but``."""
        for dialect, fanout in self._fanouts.items():
            frames: list[bytes] = []
            for event in events:
                frames += dialect.encode(event, "")
            special: dict[WebSocket | Follower, Sequence[bytes]] | None = None
            if but is not None and but.dialect is dialect:
                special = {but.websocket: ()}
            for closed in fanout.write(frames, special):
                fanout.discard(closed)

    def tell_live(self, event: LiveFromServer) -> None:
        """Send a live event to those whom it concerns."""
        if isinstance(event, Kick):
            self._kick(event)
            return
        if isinstance(event, Forwarded):
            self._hand_over(event.message)
            return
        if not isinstance(event, PrivateMessage):
            newcomer = None
            if isinstance(event, Joined) and not event.others:
                # A member needs no notice of its own join.
                newcomer = self.find(event.nick)
            self.tell([event], newcomer)
            return
        recipients = self._hand_over(event)
        for member in self.devices(event.nick):
            if member not in recipients:
                self.tell_one(member, event)

    def _hand_over(self, message: PrivateMessage) -> Sequence[Member]:
        """Send a private message to its recipient's devices here, and return them."""
        recipients = self.devices(message.to)
        for recipient in recipients:
            recipient.last_private_from = message.nick
            self.tell_one(recipient, message)
        return recipients

    def _kick(self, kick: Kick) -> None:
        said = f": {kick.reason}" if kick.reason else ""
        for member in self.devices(kick.nick):
            person = member.person
            if not (kick.spares_operators and person is not None and person.operator):
                error = Error("kicked", f"You were removed from this room{said}.")
                self.close(member, error, f"removed from {self._room}{said}")

    def close(self, member: Member, error: Error, reason: str) -> None:
        """Tell a client why it is disconnected, and close it so that it does not come back."""
        self.tell_one(member, error)
        short = reason.encode()[:MAX_REASON].decode(errors="ignore")
        member.websocket.begin_close(POLICY_VIOLATION, short, Deadline.after(CLOSE_SECONDS))

    def tell_others(self, messages: Sequence[Message], epoch: str) -> None:
        """Send messages to all members; a sender gets an acknowledgement of its own instead."""
        senders: dict[Member, set[int]] = {}
        for message in messages:
            sender = self._sender(message)
            if sender is not None:
                senders.setdefault(sender, set()).add(message.offset)
        for dialect, fanout in self._fanouts.items():
            frames = [dialect.encode(message, "") for message in messages]
            special: dict[WebSocket | Follower, list[bytes]] = {}
            for sender, sent in senders.items():
                if sender.dialect is dialect:
                    own = special[sender.websocket] = []
                    for message, usual in zip(messages, frames, strict=True):
                        if message.offset not in sent:
                            own += usual
                        elif message.nonce is not None:
                            own += dialect.encode(Ack(message.nonce, message.offset, epoch), "")
            for closed in fanout.write([frame for usual in frames for frame in usual], special):
                fanout.discard(closed)

    def _sender(self, message: Message) -> Member | None:
        """The client here that has sent a message; None: there is none."""
        first, *further = self.devices(message.nick) or (None,)
        if first is None or first.sent is None:
            return first
        for device in (first, *further):
            if device.sent and (message.nonce, message.text) in device.sent:
                device.sent.remove((message.nonce, message.text))
                return device
        return None

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


def _browser_of(request: Request) -> str:
    """What the browser shows that sends ``request``; empty: nothing. Nobody can guess it.

    Hashed, since engines keep it with the claims for nicks.
    """
    secret = request.headers.get("syncchat-browser", "")
    if not _SECRET.fullmatch(secret):
        return ""
    return hashlib.blake2b(secret.encode(), digest_size=16).hexdigest()
