"""Which rooms there are, as far as the server has told: for completion."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Sequence

from ..chat.events import Rooms, RoomsRequest
from ..client import Client
from ..errors import ConnectionClosed, NotConnected

__all__ = ["KnownRooms"]

#: Seconds for which an answer is good enough.
_FRESH = 5.0


class KnownRooms:
    """Asks the server, and tells the answers that a person asked for from its own."""

    def __init__(self, client: Client) -> None:
        self._client = client
        #: Guards what follows, and that questions stand in the order in which
        #: they are asked. Before the client's lock in the lock order.
        self._lock = threading.Lock()
        self._names: list[str] = []
        self._asked_at = -_FRESH
        #: For each question that is not answered, whether a person asked it.
        self._asked: deque[bool] = deque()

    def names(self) -> Sequence[str]:
        """The rooms; asks anew where that was long ago. From any thread."""
        with self._lock:
            if time.monotonic() - self._asked_at >= _FRESH:
                self._asked_at = time.monotonic()
                # Where that cannot be, these are all that are known.
                with contextlib.suppress(NotConnected, ConnectionClosed):
                    self._ask_locked(by_person=False)
            return list(self._names)

    def ask(self) -> None:
        """Ask for a person, who is to be shown the answer. Raises as :meth:`Client.ask`."""
        with self._lock:
            self._ask_locked(by_person=True)

    def answered(self, rooms: Rooms | None) -> bool:
        """An answer has come, None for an error; whether a person asked for it."""
        with self._lock:
            if rooms is not None:
                self._names = sorted(each.room for each in rooms.rooms)
            return self._asked.popleft() if self._asked else True

    def forget_questions(self) -> None:
        """The connection was lost, and nothing that was asked is going to be answered."""
        with self._lock:
            self._asked.clear()

    def _ask_locked(self, *, by_person: bool) -> None:
        self._client.ask(RoomsRequest())
        self._asked.append(by_person)
