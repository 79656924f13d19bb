"""Which rooms there are, as far as the server has told: for completion."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence

from ..chat.events import Rooms, RoomsRequest
from ..client import Client
from ..errors import ConnectionClosed, NotConnected
from .questions import Questions

__all__ = ["RoomCache"]

#: Seconds for which an answer is good enough.
_FRESH = 5.0


class RoomCache:
    """Asks the server. Every method may be called from any thread."""

    def __init__(self, client: Client) -> None:
        self.questions = Questions(client, RoomsRequest())
        #: Guards what follows; no other lock is taken under it.
        self._lock = threading.Lock()
        self._names: list[str] = []
        self._asked_at = -_FRESH

    def names(self) -> Sequence[str]:
        """The rooms; asks anew where that was long ago."""
        now = time.monotonic()
        with self._lock:
            known = list(self._names)
            due = now - self._asked_at >= _FRESH
            if due:
                self._asked_at = now
        if due:
            # Where that cannot be, these are all that are known.
            with contextlib.suppress(NotConnected, ConnectionClosed):
                self.questions.ask(by_person=False)
        return known

    def note(self, rooms: Rooms) -> None:
        """Take notice of the rooms that there are."""
        with self._lock:
            self._names = sorted(each.room for each in rooms.rooms)
