"""The rooms of the server, cached for completion."""

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

#: Seconds for which an answer counts as current.
_FRESH = 5.0


class RoomCache:
    """The names of the rooms that the server has reported. Any thread may call every method."""

    def __init__(self, client: Client) -> None:
        self.questions = Questions(client, RoomsRequest())
        #: Guards the fields below. No other lock is taken while it is held.
        self._lock = threading.Lock()
        self._names: list[str] = []
        self._asked_at = -_FRESH

    def names(self) -> Sequence[str]:
        """Return the known rooms, and request a new list if the last request is too old."""
        now = time.monotonic()
        with self._lock:
            known = list(self._names)
            due = now - self._asked_at >= _FRESH
            if due:
                self._asked_at = now
        if due:
            # Without a connection, the known rooms have to do.
            with contextlib.suppress(NotConnected, ConnectionClosed):
                self.questions.ask(by_person=False)
        return known

    def note(self, rooms: Rooms) -> None:
        """Store the server's list of rooms."""
        with self._lock:
            self._names = sorted(each.room for each in rooms.rooms)
