"""The common part of engines for a single server: names, live events, direct delivery."""

from __future__ import annotations

import threading
from abc import ABC
from collections.abc import Sequence

from .interface import Deliver, Engine, Entry, Live

__all__ = ["LocalEngine"]


class LocalEngine(Engine, ABC):
    """An engine whose rooms have all their members on this server."""

    def __init__(self) -> None:
        self._deliver: Deliver = lambda _room, _entries: None
        self._live: Live = lambda _room, _event: None
        #: Guards ``_names``. No other lock is taken under it.
        self._names_lock = threading.Lock()
        #: The claimed names of each room, by their casefolded form.
        self._names: dict[str, dict[str, str]] = {}

    def attach(self, deliver: Deliver, live: Live) -> None:
        self._deliver = deliver
        self._live = live

    def publish(self, room: str, event: str) -> None:
        self._live(room, event)

    def _deliver_new(self, room: str, entries: Sequence[Entry], last: int) -> None:
        """Deliver the entries of an append whose offset is above ``last``, each once."""
        fresh = []
        for entry in entries:
            if entry.offset > last:
                fresh.append(entry)
                last = entry.offset
        if fresh:
            self._deliver(room, fresh)

    def claim(self, room: str, nick: str, instead_of: str | None = None) -> bool:
        with self._names_lock:
            names = self._names.setdefault(room, {})
            key = nick.casefold()
            old = None if instead_of is None else instead_of.casefold()
            if key in names and key != old:
                return False
            if old is not None:
                names.pop(old, None)
            names[key] = nick
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
