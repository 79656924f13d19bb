"""A member of a room."""

from __future__ import annotations

import time

from ..net import WebSocket, format_address
from .dialects import Dialect
from .nicks import is_address

__all__ = ["Member"]


class Member:
    """A client in the rooms of a server; it is in one room at a time.

    ``nick`` and ``address`` are sanitized. Only the room's combiner changes ``nick``. Any
    thread may read every attribute.
    """

    __slots__ = (
        "address",
        "away",
        "dialect",
        "greeted",
        "nick",
        "since",
        "spoke",
        "websocket",
        "whispered",
    )

    def __init__(self, websocket: WebSocket, dialect: Dialect) -> None:
        self.websocket = websocket
        self.dialect = dialect
        self.address = format_address(websocket.remote_address)
        self.nick = self.address
        #: Whether it has received the operator's greeting.
        self.greeted = False
        #: When it entered its room, and when it spoke there last; seconds since 1970.
        self.since = time.time()
        self.spoke: float | None = None
        #: Its reason to be away, empty for none; None: it is not away.
        self.away: str | None = None
        #: The sender of the last private message to it.
        self.whispered: str | None = None

    @property
    def chosen(self) -> str | None:
        """The nick that it has chosen; None: its nick is its address."""
        return None if is_address(self.nick) else self.nick
