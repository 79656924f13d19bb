"""A room: its members, and the single order of everything that happens in it.

Messages, joins, leaves and renames all go through the room's queue. One thread at
a time, the combiner, does the work of all threads: it gives the queued messages to
the engine as one batch, and writes the resulting messages to the members, with one
write per member. Therefore joining is exact, however busy the room is: a new member
gets the history up to offset N and live messages from N + 1.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from ..engine import Appended, Delivery, Departed, Draft, Engine, Position, Revoked
from ..errors import EngineFailed
from ..net import CombiningQueue, Deadline, Later
from .appends import AppendThread, Post, Receipt, acknowledge, drafts_of, refuse
from .entering import Entering, WantedHistory
from .events import Away, Back, Error, FromServer, Joined, Left, LiveFromServer
from .feed import Feed
from .members import Member, Members
from .presence_batch import PresenceBatch
from .reads import Read, Reads, Step, guarded
from .renames import Renames
from .room_settings import RoomSettings

__all__ = ["Room"]

logger = logging.getLogger("syncchat.chat")

#: Weight of the queue above which senders wait: characters of text, and about the bytes that an
#: item takes besides.
_MAX_QUEUED, _OVERHEAD = 1024 * 1024, 400


class _Arrival:
    """A shared engine has added something to the feed."""


_ARRIVAL = _Arrival()


class Room:
    """Made by :class:`RoomRegistry`. Every method may be called from any thread."""

    def __init__(
        self, name: str, engine: Engine, settings: RoomSettings, appends: AppendThread | None
    ) -> None:
        self.name = name
        #: Appends what :meth:`post_later` queues, if the engine may block.
        self._appends = appends
        self._engine = engine
        self._settings = settings
        #: Clients and ``used()`` blocks that need this room. Guarded by the registry's lock.
        self.users = 0
        #: Whether it ends a moment after its last user has gone. Guarded as ``users``.
        self.lingers = False
        self._queue: CombiningQueue[Post | _Arrival | Read | Step] = CombiningQueue(
            self._apply, max_weight=_MAX_QUEUED
        )
        self._reads = Reads()
        # Only the combiner changes the fields below.
        #: The combiner's thread while it applies a batch or appends.
        self._combiner: int | None = None
        #: What the append thread has begun to append, and the number of the queue's items for it.
        self._begun: tuple[list[Post], int] = ([], 0)
        self._members = Members(name, engine, settings.watches)
        self._presence = PresenceBatch(self._members, self._announce, self._set_timer)
        self._renames = Renames(
            name, engine, settings, self._members, self._presence, self._announce
        )
        self._feed = Feed(name, engine, self._members, self._presence, echo=settings.echo)

    # For sessions.

    def enter(
        self,
        member: Member,
        nick: str | None,
        wanted: WantedHistory,
        admit: Callable[[], None] | None = None,
        *,
        strict: bool = False,
    ) -> None:
        """Add ``member``: it gets a welcome, its history, and everything that follows.

        Its nick is ``nick``, or if that is None or taken, the name of its person, or its address.
        A long history is sent first, in pieces. For ``admit``, ``strict`` and the exceptions, see
        :class:`Entering`; raises :class:`~syncchat.errors.EngineFailed`, too.
        """
        entering = Entering(
            self.name,
            self._engine,
            self._settings,
            member,
            nick,
            self.find,
            wanted,
            admit,
            strict=strict,
        )
        try:
            entering.complete(lambda: self.run(lambda: self._enter(entering), reads=True))
        except BaseException:
            if entering.claimed:
                self.leave(member, None, seen=entering.admitted)
            raise

    def leave(self, member: Member, reason: str | None, *, seen: bool = True) -> None:
        """Remove ``member``, and block until that is done. ``seen``: the others are told.

        Everything queued earlier is written to the member, and nothing later.
        """
        # Heavier: the threads of a thousand members would wake up together, and delay other rooms.
        self._queue.submit([lambda: self._leave(member, reason, seen=seen)], 4 * _OVERHEAD)
        self._queue.drain()

    def post(self, member: Member | None, drafts: Sequence[Draft]) -> None:
        """Append messages to the log, in this order, with no others in between.

        ``member`` is their sender; None: the server. Blocks while the queue is full.
        """
        weight = len(drafts) * _OVERHEAD
        for draft in drafts:
            weight += len(draft.text)
        self._queue.submit([Post(member, drafts, time.perf_counter())], weight)

    def publish(self, draft: Draft) -> Position:
        """Append a message of a sender that is no member, and return its position.

        Raises :class:`~syncchat.errors.EngineFailed`.
        """
        receipt = Receipt()
        weight = _OVERHEAD + len(draft.text)
        self._queue.submit([Post(None, [draft], time.perf_counter(), receipt)], weight)
        self._queue.drain()
        return receipt.result()

    def post_later(self, member: Member, drafts: Sequence[Draft], size: int, later: Later) -> bool:
        """Queue messages as :meth:`post` does, and have the caller of ``later`` append them.

        ``size`` is the number of their characters. Never blocks. False: the queue is full,
        and nothing is queued.
        """
        post = Post(member, drafts, time.perf_counter())
        if not self._queue.add((post,), len(drafts) * _OVERHEAD + size):
            return False
        if self._appends is None:
            later.add(self._queue.combine)
        else:
            self._appends.add(self)
            later.add(self._appends.wake)
        return True

    def rename(self, member: Member, nick: str) -> None:
        """Rename ``member``, or send it an error if the nick is taken."""
        self._do_for(member, "nick", lambda: self._renames.ask(member, nick))

    def set_away(self, member: Member, reason: str | None) -> None:
        """Mark ``member`` as away for ``reason``, or as back if ``reason`` is None."""
        command = "back" if reason is None else "away"
        self._do_for(member, command, lambda: self._set_away(member, reason))

    def tell_names(self, member: Member) -> None:
        """Send one member the names of all members, and of those who are away."""
        self._do_for(member, "names", lambda: self._members.tell_one(member, self._members.names()))

    def tell(self, member: Member, *events: FromServer) -> None:
        """Send one member events, in order with the room's messages."""
        self._do(lambda: self._members.tell_one(member, *events))

    def answer(self, member: Member, event: FromServer) -> None:
        """Send one member what it has asked to read. It does not wait for messages before it."""
        step = partial(self._members.tell_one, member, event)
        if not self._reads.take(step):
            self._queue.submit([Read(step)], _OVERHEAD)

    def send(self, member: Member, text: str) -> None:
        """Send one member a text of its dialect, in order with the room's messages."""
        self._do(lambda: self._members.send_one(member, text))

    def drain(self) -> None:
        """Block until everything queued so far is done."""
        self._queue.drain()

    def run(self, step: Callable[[], object], *, reads: bool = False) -> None:
        """Call ``step`` in its place in the order, and raise its exception.

        ``reads``: it waits for no message that is still to be appended.
        """
        failures: list[Exception] = []
        call = guarded(step, failures)
        if not (reads and self._reads.take(call)):
            self._queue.submit([Read(call) if reads else call], _OVERHEAD)
            self._queue.drain()
        if failures:
            raise failures[0]

    def run_later(self, step: Callable[[], None]) -> None:
        """Call ``step`` in its place in the order; never waits. For the I/O thread."""
        self._queue.offer(step)

    def __len__(self) -> int:
        """The number of members."""
        return len(self._members)

    def find(self, nick: str, *, like: bool = False) -> Member | None:
        """The member of this nick; ``like``: or of one that looks like it. None: there is none."""
        return self._members.find_like(nick) if like else self._members.find(nick)

    def visit(self, call: Callable[[Members], None]) -> None:
        """Call ``call`` with the members in its place in the order, and raise its exception."""
        self.run(lambda: call(self._members))

    def heed_people(self) -> None:
        """Apply a change of the people to the members: names and tokens that are not valid now."""

        def step() -> None:
            for member in self._members:
                self._renames.heed_people(member)

        self._do(step)

    # For the engine. A local engine calls back on the combiner's thread, from ``append`` and
    # ``publish``; a shared engine on a thread of its own.

    def deliver(self, delivery: Delivery) -> None:
        """Send new messages of the log to all members."""
        if threading.get_ident() == self._combiner:
            self._reads.end_append()
            self._feed.take(delivery)
        else:
            self._feed.add(delivery)
            self._note_arrival(sum(len(each.text) + _OVERHEAD for each in delivery.messages))

    def deliver_own(self, delivery: Delivery) -> bool:
        """As :meth:`Feed.take_own`, on the combiner's thread, which is appending it."""
        self._reads.end_append()
        return self._feed.take_own(delivery)

    def take_live(self, event: LiveFromServer) -> None:
        """Send a live event to the members that it concerns."""
        if threading.get_ident() in (self._combiner, self._reads.thread):
            self._feed.take(event)
        else:
            self._feed.add(event)
            self._note_arrival(_OVERHEAD)

    def _note_arrival(self, weight: int) -> None:
        """Have what was added delivered. On the engine's thread, for which all rooms wait."""
        # As the combiner, it would wait for the network for others, who join and leave.
        if not self._queue.offer(_ARRIVAL, weight or _OVERHEAD):
            self._queue.submit([_ARRIVAL], weight)

    def note_claims(self, change: Departed | Revoked) -> None:
        """Tell the members of people who are gone, or whose nicks others have now."""
        notices = self._settings.welcome.notices
        self._queue.offer(lambda: self._members.note_claims(change, notices=notices))

    # For the append thread.

    def begin_append(self) -> Sequence[Draft]:
        """Become the combiner, and return the queued messages; if there are none, resign."""
        batch = self._queue.begin()
        posts = [item for item in batch if isinstance(item, Post)]
        others = [item for item in batch if not isinstance(item, Post)]
        self._begun = posts, len(batch)
        if self._feed.position is None or not all(isinstance(item, _Arrival) for item in others):
            # Steps keep their order.
            self._apply(batch, 0)
            posts = []
        elif others and not posts:
            self._apply(others, 0)
        if posts:
            # What has arrived is delivered with what is appended.
            self._combiner = threading.get_ident()
        else:
            self.end_append()
        return drafts_of(posts)

    def take_answers(self, answers: Sequence[Appended] | EngineFailed) -> None:
        """Take the engine's answers to the messages of :meth:`begin_append`."""
        posts, _ = self._begun
        self._take_step(self._feed.take_added)
        self._take_step(lambda: self._answer(posts, answers))

    def end_append(self) -> None:
        """Give up the combiner's role after :meth:`take_answers`."""
        (_, count), self._begun = self._begun, ([], 0)
        self._combiner = None
        if count and self._queue.end(count):
            # The calling thread takes what it has been given before it sleeps.
            assert self._appends is not None
            self._appends.add(self)

    # For the registry, on the combiner's thread: steps of :meth:`run`.

    def follow(self) -> Position:
        """Have the room's log delivered, and return the position up to which it is.

        Raises :class:`~syncchat.errors.EngineFailed`.
        """
        if self._feed.position is None:
            self._feed.position = self._engine.follow(self.name)
        return self._feed.position

    def position(self) -> Position:
        """Up to where the members have the log now. Raises as :meth:`follow`. On any thread."""
        places: list[Position] = []
        self.run(lambda: places.append(self.follow()), reads=True)
        return places[0]

    def unfollow(self) -> None:
        """Have the log delivered no more, after the last member has left."""
        self._feed.position = None
        self._engine.unfollow(self.name)

    # The combiner's work.

    def _do(self, step: Step) -> None:
        self._queue.submit([step], _OVERHEAD)

    def _do_for(self, member: Member, command: str, step: Step) -> None:
        """Call ``step`` for a request; ``member`` is told if the engine fails."""

        def asked() -> None:
            try:
                step()
            except EngineFailed as exc:
                text = f"This is not possible at the moment: {exc}."
                self._members.tell_one(member, Error("unavailable", text, command))

        self._do(asked)

    def _apply(self, batch: Sequence[Post | _Arrival | Read | Step], _first: int) -> None:
        self._combiner = threading.get_ident()
        try:
            posts: list[Post] = []
            for item in batch:
                if isinstance(item, Post):
                    posts.append(item)
                    continue
                if isinstance(item, _Arrival):
                    # The order of what has arrived and of messages that are still to be
                    # appended makes no difference.
                    self._take_step(self._feed.take_added)
                    continue
                if isinstance(item, Read):
                    # Whoever enters gets the earlier messages live.
                    self._take_step(item.step)
                    self._reads.note_taken()
                    continue
                if posts:
                    # Keep the order: append the earlier messages first.
                    self._append(posts)
                    posts = []
                self._take_step(item)
            if posts:
                self._append(posts)
        finally:
            self._combiner = None

    def _take_step(self, step: Step) -> None:
        """Call ``step``; log its exception, which must reach neither caller nor other steps."""
        try:
            step()
        except Exception:
            logger.exception("room %r: a step failed", self.name)

    def _append(self, posts: Sequence[Post]) -> None:
        """Give messages to the engine as one batch."""
        drafts = drafts_of(posts)
        try:
            if self._feed.position is None:
                self.follow()
            self._reads.begin_append()
            try:
                answers = self._engine.append(self.name, drafts)
            finally:
                self._reads.end_append()
        except EngineFailed as exc:
            self._answer(posts, exc)
        except Exception:
            logger.exception("room %r: messages could not be appended", self.name)
        else:
            # The engine has delivered the new messages in append(), or is about to.
            self._take_step(self._feed.take_added)
            self._answer(posts, answers)

    def _answer(self, posts: Sequence[Post], answers: Sequence[Appended] | EngineFailed) -> None:
        """Tell the senders what has become of their messages."""
        if isinstance(answers, EngineFailed):
            refuse(self._members, self.name, posts, answers)
        else:
            self._settings.on_batch(acknowledge(self._members, self._feed, posts, answers))

    def _enter(self, entering: Entering) -> None:
        self.follow()
        if (after := entering.after) is not None:
            self._feed.reach(after.epoch, after.offset)
        entering.advance(self.follow())
        if not entering.is_done:
            return
        member, events = entering.member, entering.events
        if entering.in_pieces and member.dialect.lists_members:
            events += entering.missed(self._members.names())
        self._members.tell_one(member, *events)
        self._members.add(member)
        member.since, member.spoke, member.last_private_from = time.time(), None, None
        if entering.first and self._settings.welcome.notices and not member.follows:
            self._presence.add(member.nick, here=True)
        self._renames.heed_people(member)

    def _leave(self, member: Member, reason: str | None, *, seen: bool) -> None:
        self._members.discard(member)
        if member.follows:
            return
        # Others learn of it before they can have the nick. Only the last device of a person leaves.
        is_shared = member.is_shared
        gone = not is_shared or self._engine.release(self.name, member.nick)
        # Also for a client that never got in: others may have seen its claimed nick.
        if gone and seen and self._settings.welcome.notices:
            self._presence.add(member.nick, here=False, reason=reason)
        if not is_shared:
            self._engine.release(self.name, member.nick)

    def _set_away(self, member: Member, reason: str | None) -> None:
        was = member.away
        for device in self._members.devices(member.nick):
            device.away = reason
        self._engine.set_away(self.name, member.nick, reason)
        event = Back(member.nick) if reason is None else Away(member.nick, reason)
        if self._settings.welcome.notices and was != reason:
            self._presence.tell()
            self._engine.publish(self.name, event)
        else:
            self._members.tell_one(member, event)

    def _announce(self, notice: Joined | Left) -> None:
        try:
            notice = msgspec.structs.replace(notice, connected=self._members.connected())
            self._engine.publish(self.name, notice)
        except EngineFailed as exc:
            logger.warning("room %r: a notice could not be sent: %s", self.name, exc)

    def _set_timer(self, due: float, step: Step) -> None:
        self._settings.call_at(Deadline(due), partial(self.run_later, step))
