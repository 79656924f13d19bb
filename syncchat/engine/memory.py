"""The engine that keeps a limited number of messages per room in memory."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence

from .interface import (
    Appended,
    Delivery,
    Draft,
    Message,
    Page,
    Position,
    Retention,
    Tail,
    fingerprint,
    new_epoch,
)
from .local import LocalEngine
from .reading import SearchThrottle, first_page, matching, patterns, tail_of, tail_start
from .records import MemoryRecords, Records

__all__ = ["MemoryEngine"]

#: Messages kept per room by default.
_DEFAULT_MESSAGES = 1000

#: Nonces per room. Enough for half a minute, the longest pause before a client
#: reconnects, at more messages per second than a room handles.
_NONCES = 100_000

#: Characters of the texts kept per room, at most.
_MAX_SIZE = 8 * 1024 * 1024


class _Log:
    """A room's messages, with consecutive offsets, and the nonces of these and older ones."""

    def __init__(self) -> None:
        #: Guards the fields below. One lock per room, so that rooms do not wait for
        #: each other. No other lock is taken under it.
        self.lock = threading.Lock()
        self.epoch = new_epoch()
        self.last = 0
        self.messages: deque[Message] = deque()
        self._size = 0
        #: The offsets of known messages by fingerprint.
        self._nonces: dict[str, int] = {}
        #: The fingerprints, the oldest first. To find the oldest in the dictionary itself
        #: would take time in proportion to those deleted before it.
        self._fingerprints: deque[str] = deque()
        #: Whether the room is followed. Guarded by the engine's lock.
        self.followed = False

    def append_locked(
        self, drafts: Sequence[Draft], now: float
    ) -> tuple[list[Appended], list[Message]]:
        """Number and store the drafts. Returns an answer for each, and the new messages."""
        assert self.lock.locked()
        answers: list[Appended] = []
        new: list[Message] = []
        for draft in drafts:
            key = None if draft.nonce is None else fingerprint(draft)
            known = None if key is None else self._nonces.get(key)
            if known is not None:
                answers.append(Appended(self.epoch, known, new=False))
                continue
            self.last = offset = self.last + 1
            new.append(Message(offset, now, draft.nick, draft.text, draft.kind, draft.nonce))
            answers.append(Appended(self.epoch, offset, new=True))
            self._size += len(draft.text)
            if key is not None:
                self._nonces[key] = offset
                self._fingerprints.append(key)
        self.messages += new
        return answers, new

    def drop_locked(self, retention: Retention, now: float) -> None:
        """Drop messages and nonces that exceed the retention."""
        assert self.lock.locked()
        most = _DEFAULT_MESSAGES if retention.messages is None else retention.messages
        messages = self.messages
        while messages and (
            len(messages) > most
            or self._size > _MAX_SIZE
            or (retention.seconds is not None and messages[0].time < now - retention.seconds)
        ):
            self._size -= len(messages.popleft().text)
        while len(self._fingerprints) > _NONCES:
            del self._nonces[self._fingerprints.popleft()]


class MemoryEngine(LocalEngine):
    """Logs in memory. By default 1,000 messages per room; always at most 8 Mi characters."""

    blocks = False

    promise = "memory: until the server stops"

    def __init__(self, retention: Retention, records: Records | None = None) -> None:
        """``records`` are closed with the engine; without them, they are in memory, too."""
        super().__init__()
        self.records = records or MemoryRecords()
        self._retention = retention
        #: Guards changes of ``_logs``; lookups need no lock. Taken before a log's lock.
        self._lock = threading.Lock()
        self._throttle = SearchThrottle()
        self._logs: dict[str, _Log] = {}

    def check(self) -> None:
        """Do nothing: memory cannot fail."""

    def follow(self, room: str) -> Position:
        with self._lock:
            log = self._logs.setdefault(room, _Log())
            log.followed = True
        return self._end(room)

    def unfollow(self, room: str) -> None:
        with self._lock:
            if room in self._logs:
                self._logs[room].followed = False
                self._forget_locked(room)

    def append(self, room: str, drafts: Sequence[Draft]) -> list[Appended]:
        now = time.time()
        log = self._logs.get(room) or self._log(room)
        with log.lock:
            answers, new = log.append_locked(drafts, now)
            log.drop_locked(self._retention, now)
            end = Position(log.epoch, log.last)
        if new:
            self._deliver(room, Delivery(end, new))
        return answers

    def read_after(self, room: str, position: Position, limit: int) -> Tail:
        log = self._log(room)
        with log.lock:
            log.drop_locked(self._retention, time.time())
            end = Position(log.epoch, log.last)
            start, known = tail_start(position, end, limit)
            missed = [message for message in log.messages if message.offset > start]
        return tail_of(first_page(missed, limit)[0], start, end, known=known)

    def read_before(self, room: str, offset: int | None, limit: int) -> Page:
        messages = self._kept(room)
        found = [message for message in messages if offset is None or message.offset < offset]
        taken, whole = first_page(reversed(found), limit)
        return Page(tuple(reversed(taken)), whole)

    def search(self, room: str, words: str, limit: int) -> list[Message]:
        wanted = patterns(words)
        if not wanted:
            return []
        messages = self._kept(room)
        with self._throttle.take() as deadline:
            return first_page(matching(reversed(messages), wanted, deadline), limit)[0]

    def keeps(self, room: str) -> bool:
        return room in self._logs and bool(self._kept(room))

    def rooms(self) -> list[str]:
        kept = []
        with self._lock:
            known = sorted(self._logs)
        for room in known:
            if self.keeps(room):
                kept.append(room)
            else:
                with self._lock:
                    self._forget_locked(room)
        return kept

    def interrupt(self) -> None:
        self._throttle.close()

    def close(self) -> None:
        self.interrupt()
        self.records.close()
        with self._lock:
            self._logs.clear()

    def _forget_locked(self, room: str) -> None:
        """Drop the log of a room that is not followed, and for which nothing is kept."""
        assert self._lock.locked()
        log = self._logs.get(room)
        if log is None or log.followed:
            return
        with log.lock:
            log.drop_locked(self._retention, time.time())
            if not log.messages:
                del self._logs[room]

    def _end(self, room: str) -> Position:
        log = self._log(room)
        with log.lock:
            return Position(log.epoch, log.last)

    def _log(self, room: str) -> _Log:
        log = self._logs.get(room)
        if log is None:
            with self._lock:
                log = self._logs.setdefault(room, _Log())
        return log

    def _kept(self, room: str) -> list[Message]:
        """A copy of the messages that are kept for the room now."""
        log = self._log(room)
        with log.lock:
            log.drop_locked(self._retention, time.time())
            return list(log.messages)
