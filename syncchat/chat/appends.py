"""Messages on their way into the logs, and the thread that appends those of many rooms together."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Sequence
from typing import Protocol

import msgspec

from ..engine import Appended, Draft, Engine, Position
from ..errors import AppendUnknown, EngineFailed
from .events import Ack
from .feed import Feed
from .members import Member, Members

__all__ = [
    "AppendThread",
    "Appending",
    "Post",
    "Receipt",
    "acknowledge",
    "drafts_of",
    "refuse",
]

logger = logging.getLogger("syncchat.chat")

#: Seconds for which the reader waits for the append thread at most. Meanwhile further messages
#: arrive, which it then reads together.
_PACE = 0.002

#: Seconds between two round trips of several messages: a group commit delay.
_LINGER = 0.0002

#: Characters of the texts in one round trip, about at most.
_MOST = 4 * 1024 * 1024


class Receipt:
    """Tells a sender that is no member what became of its post."""

    def __init__(self) -> None:
        #: The position of the last message; None: it is not stored.
        self.position: Position | None = None
        self.failure: EngineFailed | None = None

    def result(self) -> Position:
        """The position. Raises why the message is not stored, or that this is not known."""
        if self.position is None:
            raise self.failure or AppendUnknown("the engine failed")
        return self.position


class Post(msgspec.Struct):
    """Messages that ``member`` has sent together; None: the server itself.

    ``came_at``: when they were received, in seconds on the performance counter.
    """

    member: Member | None
    drafts: Sequence[Draft]
    came_at: float
    receipt: Receipt | None = None


def drafts_of(posts: Sequence[Post]) -> list[Draft]:
    """The drafts of posts, which are about to be appended."""
    now = time.time()
    drafts: list[Draft] = []
    for post in posts:
        member = post.member
        if member is not None:
            member.spoke = now
            for draft in post.drafts:
                draft.nick = member.nick
                if member.sent is not None:
                    member.sent.append((draft.nonce, draft.text))
        drafts += post.drafts
    return drafts


def acknowledge(
    members: Members, feed: Feed, posts: Sequence[Post], answers: Sequence[Appended]
) -> list[float]:
    """Tell senders of messages that were stored before, and fill in receipts.

    Returns the seconds from each message's arrival until now.
    """
    done = time.perf_counter()
    waits: list[float] = []
    answered = iter(answers)
    for post in posts:
        waits += [done - post.came_at] * len(post.drafts)
        for draft, answer in zip(post.drafts, answered, strict=False):
            # A new message is its own acknowledgement. A known one, by its nonce, was
            # stored before and does not come again.
            if not answer.new and post.member is not None and draft.nonce is not None:
                _acknowledge_known(members, feed, post.member, draft, answer)
            if post.receipt is not None:
                post.receipt.position = Position(answer.epoch, answer.offset)
    return waits


def _acknowledge_known(
    members: Members, feed: Feed, member: Member, draft: Draft, answer: Appended
) -> None:
    """Tell a sender that its message was stored before, after it has got the message."""
    assert draft.nonce is not None
    try:
        # Another server may have stored it, and this one be behind.
        feed.reach(answer.epoch, answer.offset)
    except EngineFailed as exc:
        # The client comes back and sends it again.
        members.tell_refused(member, [draft], AppendUnknown(str(exc)))
    else:
        members.tell_one(member, Ack(draft.nonce, answer.offset, answer.epoch))


def refuse(members: Members, room: str, posts: Sequence[Post], exc: EngineFailed) -> None:
    """Tell the senders that their messages are not stored, or that this is not known."""
    for post in posts:
        if post.receipt is not None:
            post.receipt.failure = exc
        elif post.member is None:
            logger.warning("room %r, a message of the server: %s", room, exc)
        else:
            if post.member.sent is not None:
                for draft in post.drafts:
                    with contextlib.suppress(ValueError):
                        post.member.sent.remove((draft.nonce, draft.text))
            members.tell_refused(post.member, post.drafts, exc)


class Appending(Protocol):
    """What a room does for the thread."""

    name: str

    def begin_append(self) -> Sequence[Draft]:
        """Take the queued messages. If there are any, the room waits for :meth:`end_append`."""

    def take_answers(self, answers: Sequence[Appended] | EngineFailed) -> None:
        """Tell the members and the senders what has become of the messages."""

    def end_append(self) -> None:
        """Go on with what has been queued meanwhile."""


class AppendThread:
    """The thread ``syncchat-append``. The reader, which reads for all clients, must not wait.

    Any thread may call the methods, except for :meth:`close`.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        #: Guards the fields below. No other lock is taken under it.
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._finished = threading.Condition(self._lock)
        #: The rooms with queued messages, in the order of arrival.
        self._rooms: dict[Appending, None] = {}
        #: Whether the thread appends.
        self._is_busy = False
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="syncchat-append", daemon=True)
        self._thread.start()

    def add(self, room: Appending) -> None:
        """Append the queued messages of ``room`` after the next :meth:`wake`."""
        with self._lock:
            self._rooms[room] = None

    def wake(self) -> None:
        """Append what has been added, and wait for that for a moment."""
        with self._lock:
            self._changed.notify()
            self._finished.wait_for(self._is_idle_locked, _PACE)

    def _is_idle_locked(self) -> bool:
        return not self._rooms and not self._is_busy

    def close(self) -> None:
        """End the thread, and wait for it, after the engine is interrupted."""
        with self._lock:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while rooms := self._wait():
            batches: list[tuple[Appending, Sequence[Draft]]] = []
            size = 0
            for room in rooms:
                if size > _MOST:
                    self.add(room)
                    continue
                drafts = room.begin_append()
                if drafts:
                    batches.append((room, drafts))
                    size += sum(len(draft.text) for draft in drafts)
            answers = self._append(batches)
            for (room, _), answer in zip(batches, answers, strict=True):
                room.take_answers(answer)
            if sum(len(drafts) for _, drafts in batches) > 1:
                # The clients are about to answer, so that the next round trip has more to carry.
                # What other nodes publish meanwhile is delivered after it, in the same writes.
                time.sleep(_LINGER)
            for room, _ in batches:
                room.end_append()

    def _wait(self) -> Sequence[Appending]:
        """The rooms that have messages. Empty: the thread is to end."""
        with self._lock:
            self._is_busy = False
            if not self._rooms:
                self._finished.notify_all()
            while not self._rooms and not self._closed:
                self._changed.wait()
            self._is_busy = True
            rooms, self._rooms = self._rooms, {}
            return tuple(rooms)

    def _append(
        self, batches: Sequence[tuple[Appending, Sequence[Draft]]]
    ) -> Sequence[Sequence[Appended] | EngineFailed]:
        if not batches:
            return []
        try:
            return self._engine.append_all([(room.name, drafts) for room, drafts in batches])
        except Exception:
            logger.exception("messages could not be appended")
            return [AppendUnknown("the engine failed")] * len(batches)
