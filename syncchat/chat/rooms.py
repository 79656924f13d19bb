"""The rooms of a server: which there are, and who is in them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import unquote

from ..net import Group, WebSocket
from .safetext import clean

__all__ = ["LOBBY", "Rooms", "room_of"]

#: The room at the path ``/``.
LOBBY = "lobby"


def room_of(path: str) -> str:
    """The room that a URL's path names: ``/`` is ``lobby``, ``/ops`` is ``ops``."""
    return clean(unquote(path)).strip("/") or LOBBY


class Rooms:
    """A group for each room with somebody in it. From any thread."""

    def __init__(self) -> None:
        #: Guards ``_groups``, and that a group in it has a member. Before a
        #: group's lock in the lock order.
        self._lock = threading.Lock()
        self._groups: dict[str, Group] = {}

    def get(self, name: str) -> Group | None:
        """The room's group; None where nobody is."""
        with self._lock:
            return self._groups.get(name)

    @contextmanager
    def entered(self, name: str, websocket: WebSocket, greeting: str | None) -> Iterator[Group]:
        """Be in the room while the ``with`` block lasts; the greeting is what is heard first."""
        with self._lock:
            group = self._groups.get(name)
            if group is None:
                group = Group()
            # Before the room is there for others: this may fail.
            group.add(websocket, greeting)
            self._groups[name] = group
        try:
            yield group
        finally:
            with self._lock:
                group.discard(websocket)
                if not group and self._groups.get(name) is group:
                    del self._groups[name]
