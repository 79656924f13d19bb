"""The engine that keeps a limited number of messages per room in memory."""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from ..errors import EngineFailed
from ..net import Deadline
from .interface import (
    Draft,
    Entry,
    Page,
    Position,
    Retention,
    fingerprint,
    fitting,
    new_epoch,
)
from .local import LocalEngine
from .search_throttle import SearchThrottle

__all__ = ["MemoryEngine"]

#: Messages kept per room by default.
_DEFAULT_MESSAGES = 1000

#: Nonces per room. Enough for half a minute, the longest pause before a client
#: reconnects, at more messages per second than a room handles.
_NONCES = 100_000

#: Seconds after which a search pauses so that other threads run, and seconds of the pause.
#: Needed since the server command sets a switch interval that is longer than a whole search.
_SLICE, _YIELD = 0.005, 0.0001

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
        self.entries: deque[Entry] = deque()
        self._size = 0
        #: The offsets of known messages by fingerprint, the oldest first.
        self._nonces: dict[str, int] = {}

    def add(self, draft: Draft, now: float) -> Entry:
        """Number and store the draft, unless its fingerprint is known. Returns its entry."""
        key = fingerprint(draft)
        known = None if key is None else self._nonces.get(key)
        offset = self.last + 1 if known is None else known
        entry = Entry(offset, now, draft.nick, draft.text, draft.kind, draft.nonce)
        if known is None:
            self.last = offset
            self.entries.append(entry)
            self._size += len(entry.text)
            if key is not None:
                self._nonces[key] = offset
        return entry

    def drop(self, retention: Retention, now: float) -> None:
        """Drop messages and nonces that exceed the retention."""
        most = _DEFAULT_MESSAGES if retention.messages is None else retention.messages
        entries = self.entries
        while entries and (
            len(entries) > most
            or self._size > _MAX_SIZE
            or (retention.seconds is not None and entries[0].time < now - retention.seconds)
        ):
            self._size -= len(entries.popleft().text)
        while len(self._nonces) > _NONCES:
            del self._nonces[next(iter(self._nonces))]


class MemoryEngine(LocalEngine):
    """Logs in memory. By default 1,000 messages per room; always at most 8 Mi characters."""

    def __init__(self, retention: Retention) -> None:
        super().__init__()
        self._retention = retention
        #: Guards changes of ``_logs``; lookups need no lock. Taken before a log's lock.
        self._lock = threading.Lock()
        self._throttle = SearchThrottle()
        self._logs: dict[str, _Log] = {}

    def check(self) -> None:
        """Do nothing: memory cannot fail."""

    def append(self, room: str, drafts: Sequence[Draft]) -> list[Entry]:
        now = time.time()
        log = self._log(room)
        with log.lock:
            before = log.last
            entries = [log.add(draft, now) for draft in drafts]
            log.drop(self._retention, now)
        self._deliver_new(room, entries, before)
        return entries

    def position(self, room: str) -> Position:
        log = self._log(room)
        with log.lock:
            return Position(log.epoch, log.last)

    def read_after(self, room: str, position: Position, limit: int) -> Page:
        log = self._log(room)
        with log.lock:
            log.drop(self._retention, time.time())
            if position.epoch != log.epoch or position.offset > log.last:
                return Page((), complete=False)
            missed = [entry for entry in log.entries if entry.offset > position.offset]
            complete = len(missed) == log.last - position.offset
        taken, whole = fitting(missed, limit)
        return Page(tuple(taken), complete and whole)

    def read_before(self, room: str, offset: int | None, limit: int) -> Page:
        entries = self._kept(room)
        found = [entry for entry in entries if offset is None or entry.offset < offset]
        taken, whole = fitting(reversed(found), limit)
        return Page(tuple(reversed(taken)), whole)

    def search(self, room: str, words: str, limit: int) -> list[Entry]:
        wanted = [re.compile(rf"\b{re.escape(word)}") for word in {*words.casefold().split()}]
        if not wanted:
            return []
        entries = self._kept(room)
        with self._throttle.take() as deadline:
            return fitting(_matching(reversed(entries), wanted, deadline), limit)[0]

    def keeps(self, room: str) -> bool:
        return room in self._logs and bool(self._kept(room))

    def forget(self, room: str) -> None:
        with self._lock:
            if not self.keeps(room):
                self._logs.pop(room, None)

    def rooms(self) -> list[str]:
        return sorted(room for room in tuple(self._logs) if self.keeps(room))

    def interrupt(self) -> None:
        self._throttle.close()

    def close(self) -> None:
        self.interrupt()
        with self._lock:
            self._logs.clear()

    def _log(self, room: str) -> _Log:
        log = self._logs.get(room)
        if log is None:
            with self._lock:
                log = self._logs.setdefault(room, _Log())
        return log

    def _kept(self, room: str) -> list[Entry]:
        """A copy of the messages that are kept for the room now."""
        log = self._log(room)
        with log.lock:
            log.drop(self._retention, time.time())
            return list(log.entries)


def _matching(
    entries: Iterable[Entry], words: Sequence[re.Pattern[str]], deadline: Deadline
) -> Iterator[Entry]:
    """The entries that contain every word. Raises :class:`EngineFailed` after ``deadline``."""
    slice_end = time.monotonic() + _SLICE
    for entry in entries:
        if time.monotonic() >= slice_end:
            time.sleep(_YIELD)
            slice_end = time.monotonic() + _SLICE
        if deadline.expired:
            raise EngineFailed("the search takes too long")
        text = entry.text.casefold()
        if all(word.search(text) for word in words):
            yield entry
