"""A room: its members, and the single order of everything that happens in it.

Messages, joins, leaves and renames all go through the room's queue. One thread at
a time, the combiner, does the work of all threads: it gives the queued messages to
the engine as one batch, and writes the resulting entries to the members, with one
write per member. Therefore joining is exact, however busy the room is: a new member
gets the history up to offset N and live messages from N + 1.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, count
from math import inf

from ..engine import Draft, Engine, Entry, Kind
from ..errors import EngineFailed
from ..net import CombiningQueue, Deadline
from .events import (
    Ack,
    Away,
    Back,
    Error,
    FromServer,
    Joined,
    Names,
    PrivateMessage,
    Renamed,
    Welcome,
    decode_from_server,
    encode,
    message_of,
)
from .history import Past, next_piece, recent
from .members import Member, Members
from .nicks import SERVER_NICK
from .presence_batch import PresenceBatch
from .settings import RoomSettings

__all__ = ["Post", "Room"]

logger = logging.getLogger("syncchat.chat")

#: Weight of the queue above which senders wait: characters of text, and the overhead below.
_MAX_QUEUED = 1024 * 1024
#: Weight of an item in the queue besides its text, about the bytes that it takes.
_OVERHEAD = 400

#: Seconds in which a client must read a piece of its history.
_PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class Post:
    """A message on its way to the engine, sent by ``member``; None: by the server itself."""

    member: Member | None
    text: str
    kind: Kind = "message"
    nonce: str | None = None
    #: When it was received, in seconds on the performance counter.
    came_at: float = field(default_factory=time.perf_counter)


#: Any other item of the queue: a function, called in its place in the order.
_Step = Callable[[], None]


@dataclass(slots=True)
class _Entering:
    """The state of a client that enters the room."""

    member: Member
    nick: str | None
    past: Past
    #: Its nick is claimed in the engine.
    named: bool = False
    #: Its welcome is among the events for it.
    welcomed: bool = False
    #: Events to send to it before it can become a member.
    ahead: Sequence[FromServer] = ()
    entered: bool = False
    failure: Exception | None = None


class Room:
    """Made by :class:`RoomRegistry`. Every method may be called from any thread."""

    def __init__(self, name: str, engine: Engine, settings: RoomSettings) -> None:
        self.name = name
        self._engine = engine
        self._settings = settings
        self._queue: CombiningQueue[Post | _Step] = CombiningQueue(
            self._apply, max_weight=_MAX_QUEUED
        )
        # Only the combiner changes the fields below.
        self._members = Members()
        #: The first offset that the engine delivered in the current append; inf: none.
        self._fresh_from = inf
        self._notices = PresenceBatch()
        #: Whether a timer for the notices is set.
        self._timed = False

    # For sessions.

    def enter(self, member: Member, nick: str | None, past: Past) -> None:
        """Add ``member``: it gets a welcome, its history, and everything that follows.

        Its nick is ``nick``, or its address if ``nick`` is None or taken. A long
        history is sent first, in pieces, as fast as the client reads. Raises
        :class:`EngineFailed`; and :class:`ConnectionClosed` or
        :class:`TimeoutError` if the client does not read a piece in time.
        """
        entering = _Entering(member, nick, past)
        try:
            while True:
                self._do(lambda: self._enter(entering))
                self._queue.drain()
                if entering.failure is not None:
                    raise entering.failure
                if entering.entered:
                    return
                # A long history: send it without being the combiner, so that nobody
                # else waits for this client.
                member.send(entering.ahead)
                member.websocket.flush(_PATIENCE)
        except BaseException:
            if entering.named:
                self.leave(member, None)
            raise

    def leave(self, member: Member, reason: str | None) -> None:
        """Remove ``member``, and block until that is done.

        Everything queued earlier is written to the member, and nothing later.
        """
        # Heavier than other steps: the threads of members whose steps are applied wake
        # up at the same time, and a thousand of them delay other rooms.
        self._queue.submit([lambda: self._leave(member, reason)], 4 * _OVERHEAD)
        self._queue.drain()

    def post(self, posts: Sequence[Post]) -> None:
        """Append messages to the log, in this order, with no others in between.

        Blocks while the queue is full.
        """
        self._queue.submit(posts, sum(len(post.text) + _OVERHEAD for post in posts))

    def rename(self, member: Member, nick: str) -> None:
        """Rename ``member``, or send it an error if the nick is taken."""
        self._do(lambda: self._rename(member, nick))

    def set_away(self, member: Member, reason: str | None) -> None:
        """Mark ``member`` as away for ``reason``, or as back if ``reason`` is None."""
        self._do(lambda: self._set_away(member, reason))

    def whisper(self, member: Member, to: str, text: str) -> None:
        """Send ``text`` to the member called ``to`` only, or an error to ``member`` if absent."""
        self._do(lambda: self._whisper(member, to, text))

    def tell_names(self, member: Member) -> None:
        """Send one member the names of all members, and of those who are away."""
        self._do(lambda: self._members.tell_one(member, self._names()))

    def tell(self, member: Member, *told: FromServer) -> None:
        """Send one member events, in order with the room's messages."""
        self._do(lambda: self._members.tell_one(member, *told))

    def send(self, member: Member, text: str) -> None:
        """Send one member a text of its dialect, in order with the room's messages."""
        self._do(lambda: self._members.send_one(member, text))

    def drain(self) -> None:
        """Block until everything queued so far is done."""
        self._queue.drain()

    def __len__(self) -> int:
        """The number of members."""
        return len(self._members)

    def find(self, nick: str) -> Member | None:
        """The member of this nick, compared by casefold; None: there is no such member."""
        return self._members.find(nick)

    # For the engine. On the combiner's thread, since local engines call back from
    # ``append`` and ``publish``.

    def deliver(self, entries: Sequence[Entry]) -> None:
        """Send new entries of the log to all members."""
        if self._notices and any(entry.nick in self._notices for entry in entries):
            # Announce a member before its first message.
            self._tell_notices()
        self._fresh_from = entries[0].offset
        messages = [message_of(entry) for entry in entries]
        if self._settings.echo:
            self._members.tell(messages)
        else:
            self._members.tell_others(messages)

    def take_live(self, text: str) -> None:
        """Send a live event to the members that it concerns."""
        event = decode_from_server(text)
        if not isinstance(event, PrivateMessage):
            newcomer = None
            if isinstance(event, Joined) and not event.others:
                # A member needs no notice of its own join.
                newcomer = self.find(event.nick)
            self._members.tell([event], newcomer)
            return
        hearer, sender = self.find(event.to), self.find(event.nick)
        if hearer is not None:
            hearer.whispered = event.nick
            self._members.tell_one(hearer, event)
        if sender is not None and sender is not hearer:
            self._members.tell_one(sender, event)

    # The combiner's work.

    def _do(self, step: _Step) -> None:
        self._queue.submit([step], _OVERHEAD)

    def _apply(self, batch: list[Post | _Step], _first: int) -> None:
        posts: list[Post] = []
        for item in batch:
            if isinstance(item, Post):
                posts.append(item)
                continue
            # Keep the order: append the earlier messages first.
            if posts:
                self._guarded(self._append, posts)
                posts = []
            self._guarded(item)
        if posts:
            self._guarded(self._append, posts)

    def _guarded(self, step: Callable[..., None], *arguments: object) -> None:
        """Run ``step``, and log its exception.

        The combiner works for other threads: a failure of one step must reach neither its own
        caller nor the steps that follow.
        """
        try:
            step(*arguments)
        except Exception:
            logger.exception("room %r: a step failed", self.name)

    def _append(self, posts: Sequence[Post]) -> None:
        """Give messages to the engine as one batch."""
        now = time.time()
        drafts = []
        for post in posts:
            nick = SERVER_NICK
            if post.member is not None:
                nick = post.member.nick
                post.member.spoke = now
            drafts.append(Draft(nick, post.text, post.kind, post.nonce))
        try:
            self._fresh_from = inf
            entries = self._engine.append(self.name, drafts)
        except EngineFailed as exc:
            for post in posts:
                self._refuse(post, exc)
            return
        # append() has delivered the new entries.
        done = time.perf_counter()
        metrics = self._settings.metrics
        metrics.batch.observe([len(posts)])
        metrics.delivery.observe([done - post.came_at for post in posts])
        for post, entry in zip(posts, entries, strict=True):
            old = entry.offset < self._fresh_from
            if old and post.member is not None and entry.nonce is not None:
                # A repetition, by its nonce: it was stored before, so acknowledge it.
                self._members.tell_one(post.member, Ack(entry.nonce, entry.offset))

    def _refuse(self, post: Post, exc: EngineFailed) -> None:
        """Tell the sender that its message was neither stored nor sent to anybody."""
        if post.member is not None:
            command = "say" if post.kind == "message" else "action"
            text = f"Your message was not kept, say it again later: {exc}."
            self._members.tell_one(post.member, Error("unavailable", text, command, post.nonce))

    def _enter(self, entering: _Entering) -> None:
        member, past, engine = entering.member, entering.past, self._engine
        told: list[FromServer] = []
        try:
            if not entering.named:
                self._name(entering)
            if not entering.welcomed:
                told += self._welcome(entering)
                entering.welcomed = True
            if past.after is not None:
                piece = next_piece(engine, self.name, past.after)
                told.append(piece.history)
                if entering.ahead and not piece.more:
                    # It has missed the joins and leaves since its welcome.
                    told.append(self._names())
                if piece.more:
                    entering.past, entering.ahead = Past(piece.end), told
                    return
            elif past.last:
                told.append(recent(engine, self.name, past.last))
        except Exception as exc:  # noqa: BLE001 - raised in enter()
            entering.failure = exc
            return
        self._members.tell_one(member, *told)
        self._members.add(member)
        member.since, member.spoke, member.whispered = time.time(), None, None
        entering.entered = True
        self._note(member.nick, here=True)

    def _name(self, entering: _Entering) -> None:
        """Claim a nick for the client: its nick, its address, or its address and a number."""
        member, claim = entering.member, self._engine.claim
        candidates = (f"{member.address}#{number}" for number in count(2))
        for name in chain([entering.nick or member.address, member.address], candidates):
            # The address is free, unless an earlier connection from the same port was
            # cut off and its thread has not noticed that yet.
            if claim(self.name, name):
                member.nick = name
                entering.named = True
                return

    def _welcome(self, entering: _Entering) -> list[FromServer]:
        member, settings = entering.member, self._settings
        end = self._engine.position(self.name)
        welcome = Welcome(
            self.name,
            member.nick,
            end.epoch,
            end.offset,
            self._engine.names(self.name) if member.dialect.lists_members else [],
            settings.version,
            settings.limits,
            settings.format,
            member.dialect.moved(self.name) if member.greeted else settings.greeting,
            settings.notices,
        )
        member.greeted = True
        if entering.nick in (None, member.nick):
            return [welcome]
        text = f"The nick {entering.nick} is taken here; you are {member.nick}."
        return [welcome, Error("nick_taken", text, "nick")]

    def _leave(self, member: Member, reason: str | None) -> None:
        self._members.discard(member)
        self._engine.release(self.name, member.nick)
        # Also for a client that never got in: others may have seen its claimed nick.
        self._note(member.nick, here=False, reason=reason)

    def _rename(self, member: Member, nick: str) -> None:
        if nick == member.nick:
            return
        if not self._engine.claim(self.name, nick, member.nick):
            self._members.tell_one(
                member, Error("nick_taken", f"The nick {nick} is taken here.", "nick")
            )
            return
        self._tell_notices()
        old = member.nick
        self._members.rename(member, nick)
        if self._settings.notices:
            self._engine.publish(self.name, encode(Renamed(old, nick)))
        else:
            self._members.tell_one(member, Renamed(old, nick))

    def _set_away(self, member: Member, reason: str | None) -> None:
        was, member.away = member.away, reason
        event = Back(member.nick) if reason is None else Away(member.nick, reason)
        if self._settings.notices and was != reason:
            self._tell_notices()
            self._engine.publish(self.name, encode(event))
        else:
            self._members.tell_one(member, event)

    def _whisper(self, member: Member, to: str, text: str) -> None:
        hearer = self.find(to)
        if hearer is None:
            self._members.tell_one(member, Error("absent", f"There is no {to} here.", "private"))
        else:
            event = PrivateMessage(member.nick, hearer.nick, text, time.time())
            self._engine.publish(self.name, encode(event))
            if hearer.away is not None and hearer is not member:
                self._members.tell_one(member, Away(hearer.nick, hearer.away))

    # Notices.

    def _note(self, nick: str, *, here: bool, reason: str | None = None) -> None:
        if not self._settings.notices:
            return
        self._notices.add(nick, here=here, reason=reason)
        due = self._notices.due_at
        if time.monotonic() >= due:
            self._tell_notices()
        elif not self._timed:
            self._timed = True
            # The timer runs on the I/O thread, which must not wait or do the combiner's
            # work: other clients' writes depend on it.
            on_timer = partial(self._queue.offer, self._on_timer)
            self._settings.call_at(Deadline(due), on_timer)

    def _on_timer(self) -> None:
        self._timed = False
        self._tell_notices()

    def _tell_notices(self) -> None:
        told = self._notices.take(len(self._members)) if self._notices else []
        # Publish nothing from a room without members: a new Room may have the name by now.
        if self._members:
            for event in told:
                self._engine.publish(self.name, encode(event))

    def _names(self) -> Names:
        return Names(self._engine.names(self.name), self._members.away())
