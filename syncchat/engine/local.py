"""What engines for a single server share: nicks, live events, entering, the search throttle."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from ..errors import EngineFailed
from ..net import Deadline
from .interface import Deliver, Delivery, Engine, Entered, Live, LiveEvent, Position, Tail

__all__ = ["LocalEngine", "SearchThrottle"]

#: Seconds that a search may take, and seconds that it may wait for its turn.
_SEARCH_SECONDS = 2.0
_PATIENCE = 5.0

#: The pause after a search, as a multiple of the time that it took.
_REST = 3.0


class LocalEngine(Engine, ABC):
    """An engine whose rooms have all their members on this server."""

    def __init__(self) -> None:
        self._deliver: Deliver = _ignore
        self._live: Live = _ignore
        #: Guards ``_names``. No other lock is taken under it.
        self._names_lock = threading.Lock()
        #: The claimed nicks of each room, by their casefolded form.
        self._names: dict[str, dict[str, str]] = {}

    def attach(self, deliver: Deliver, live: Live) -> None:
        self._deliver = deliver
        self._live = live

    @abstractmethod
    def _end(self, room: str) -> Position:
        """The end of the room's log. All of it is delivered."""

    def enter(
        self,
        room: str,
        nicks: Iterable[str],
        after: Position | None,
        limit: int,
        *,
        with_names: bool,
    ) -> Entered:
        nick = self.claim(room, nicks)
        try:
            if after is None:
                end = self._end(room)
                messages = self.read_before(room, None, limit).messages if limit else ()
                tail = Tail(messages, True, end.offset, end)
            else:
                tail = self.read_after(room, after, limit)
        except BaseException:
            self.release(room, nick)
            raise
        return Entered(nick, self.names(room) if with_names else [], tail)

    def publish(self, room: str, event: LiveEvent) -> None:
        self._live(room, event)

    def claim(self, room: str, nicks: Iterable[str]) -> str:
        with self._names_lock:
            names = self._names.setdefault(room, {})
            for nick in nicks:
                key = nick.casefold()
                if key not in names:
                    names[key] = nick
                    return nick
        raise ValueError("no nick is free")

    def rename(self, room: str, old: str, new: str) -> bool:
        with self._names_lock:
            names = self._names.setdefault(room, {})
            key, old_key = new.casefold(), old.casefold()
            if key in names and key != old_key:
                return False
            names.pop(old_key, None)
            names[key] = new
            return True

    def release(self, room: str, nick: str) -> None:
        with self._names_lock:
            names = self._names.get(room, {})
            names.pop(nick.casefold(), None)
            if not names:
                self._names.pop(room, None)

    def names(self, room: str) -> list[str]:
        with self._names_lock:
            names = self._names.get(room, {})
            return [names[key] for key in sorted(names)]


def _ignore(_room: str, _event: Delivery | LiveEvent) -> None:
    """The callback before :meth:`LocalEngine.attach`."""


class SearchThrottle:
    """Lets one search run at a time, with a pause after each. From any thread."""

    def __init__(self) -> None:
        #: Guards the fields below. No other lock is taken under it.
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._busy = False
        self._closed = False
        #: When the pause ends, on the monotonic clock.
        self._rested_at = 0.0

    @contextmanager
    def take(self) -> Iterator[Deadline]:
        """Wait for a turn to search; the search must end by the returned deadline.

        Holds no lock during the ``with`` block. Raises :class:`EngineFailed` if there is
        no turn within 5 seconds, or after :meth:`close`.
        """
        patience = Deadline.after(_PATIENCE)
        with self._lock:
            while not self._closed and (self._busy or time.monotonic() < self._rested_at):
                if patience.expired:
                    raise EngineFailed("too many searches at the moment")
                until = patience.at if self._busy else min(patience.at, self._rested_at)
                self._changed.wait(Deadline(until).remaining())
            if self._closed:
                raise EngineFailed("the engine is closed")
            self._busy = True
        begin = time.monotonic()
        try:
            yield Deadline.after(_SEARCH_SECONDS)
        finally:
            now = time.monotonic()
            with self._lock:
                self._busy = False
                self._rested_at = now + _REST * (now - begin)
                self._changed.notify_all()

    def close(self) -> None:
        """Give no more turns: waiting and later calls of :meth:`take` raise."""
        with self._lock:
            self._closed = True
            self._changed.notify_all()

    def join(self) -> None:
        """Wait for the running search to end, after :meth:`close`.

        The caller must hold no lock that a search takes.
        """
        with self._lock:
            self._changed.wait_for(lambda: not self._busy)
