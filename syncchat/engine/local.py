"""What engines for a single server share: nicks, live events, entering."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

from .interface import (
    ClaimsChanged,
    Deliver,
    DeliverOwn,
    Delivery,
    Engine,
    Entered,
    Live,
    LiveEvent,
    Person,
    Position,
    Tail,
)

__all__ = ["LocalEngine"]


class LocalEngine(Engine, ABC):
    """An engine whose rooms have all their members on this server."""

    def __init__(self) -> None:
        self._deliver: Deliver = _ignore
        self._live: Live = _ignore
        #: Guards ``_names``. No other lock is taken under it.
        self._names_lock = threading.Lock()
        #: The claimed nicks of each room, by their casefolded form.
        self._names: dict[str, dict[str, str]] = {}

    def attach(
        self,
        deliver: Deliver,
        live: Live,
        claims_changed: ClaimsChanged | None = None,
        deliver_own: DeliverOwn | None = None,
    ) -> None:
        # Claims end with release() only, and an append delivers what it stores.
        del claims_changed, deliver_own
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

    def find(self, room: str, nick: str) -> Person | None:
        del room, nick  # There is no other server.
        return None

    def set_away(self, room: str, nick: str, reason: str | None) -> None:
        pass

    def away_nicks(self, room: str) -> list[str]:
        del room
        return []

    def elsewhere(self, rooms: Sequence[str]) -> list[int]:
        return [0] * len(rooms)

    def names(self, room: str) -> list[str]:
        with self._names_lock:
            names = self._names.get(room, {})
            return [names[key] for key in sorted(names)]


def _ignore(_room: str, _event: Delivery | LiveEvent) -> None:
    """The callback before :meth:`LocalEngine.attach`."""
