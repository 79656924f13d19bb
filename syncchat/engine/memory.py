"""The engine that keeps messages in memory, so many per room, until the process ends."""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from ..net import Deadline
from .interface import (
    Draft,
    EngineFailed,
    Entry,
    Keep,
    Page,
    Position,
    fingerprint,
    fitting,
    new_epoch,
)
from .local import LocalEngine
from .search_throttle import SearchThrottle

__all__ = ["MemoryEngine"]

#: Messages per room where nothing else is asked for.
_DEFAULT_MESSAGES = 1000

#: Nonces per room: those of half a minute, which is a client's longest pause,
#: at more messages a second than a room takes.
_NONCES = 100_000

#: Seconds of a search after which it lets other threads run, and for how long. The
#: server's command sets a switch interval that is longer than a whole search.
_SLICE, _YIELD = 0.005, 0.0001

#: Bytes of texts per room, in characters.
_MAX_SIZE = 8 * 1024 * 1024


class _Log:
    """A room's messages, a run without a hole, and the nonces of more."""

    def __init__(self) -> None:
        #: Guards the fields below. A lock for each room, since rooms have
        #: nothing to do with each other. No other lock is taken under it.
        self.lock = threading.Lock()
        self.epoch = new_epoch()
        self.last = 0
        self.entries: deque[Entry] = deque()
        self._size = 0
        #: The offsets of known messages, by fingerprint, in the order of their coming.
        self._nonces: dict[str, int] = {}

    def add(self, draft: Draft, now: float) -> Entry:
        """Number the draft, unless it is known."""
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

    def drop(self, keep: Keep, now: float) -> None:
        """Let go of what is too much or too old."""
        most = _DEFAULT_MESSAGES if keep.messages is None else keep.messages
        entries = self.entries
        while entries and (
            len(entries) > most
            or self._size > _MAX_SIZE
            or (keep.seconds is not None and entries[0].time < now - keep.seconds)
        ):
            self._size -= len(entries.popleft().text)
        while len(self._nonces) > _NONCES:
            del self._nonces[next(iter(self._nonces))]


class MemoryEngine(LocalEngine):
    """Logs in memory. ``keep.messages`` is 1,000 a room unless set; in any case 8 MiB of texts."""

    def __init__(self, keep: Keep) -> None:
        super().__init__()
        self._keep = keep
        #: Guards changes of ``_logs``, which may be looked at without. Before a
        #: log's lock.
        self._lock = threading.Lock()
        self._throttle = SearchThrottle()
        self._logs: dict[str, _Log] = {}

    def check(self) -> None:
        """Memory is always there."""

    def append(self, room: str, drafts: Sequence[Draft]) -> list[Entry]:
        now = time.time()
        log = self._log(room)
        with log.lock:
            before = log.last
            entries = [log.add(draft, now) for draft in drafts]
            log.drop(self._keep, now)
        self._deliver_new(room, entries, before)
        return entries

    def position(self, room: str) -> Position:
        log = self._log(room)
        with log.lock:
            return Position(log.epoch, log.last)

    def read_after(self, room: str, position: Position, limit: int) -> Page:
        log = self._log(room)
        with log.lock:
            log.drop(self._keep, time.time())
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
        """What is kept of the room now."""
        log = self._log(room)
        with log.lock:
            log.drop(self._keep, time.time())
            return list(log.entries)


def _matching(
    entries: Iterable[Entry], words: Sequence[re.Pattern[str]], deadline: Deadline
) -> Iterator[Entry]:
    """Those that contain every word. Raises :class:`EngineFailed` where that takes too long."""
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
