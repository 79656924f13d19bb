"""Somebody in a room, as the room knows it."""

from __future__ import annotations

import time

from ..net import WebSocket, format_address
from .dialects import Dialect
from .nicks import is_address

__all__ = ["Member"]


class Member:
    """A client's place in the rooms of a server: one at a time.

    ``nick`` and ``address`` are cleaned. The nick is changed by the room alone,
    with the baton; everything may be read from any thread.
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
        #: It has been told the operator's greeting.
        self.greeted = False
        #: When it entered its room, and spoke there last; seconds since 1970.
        self.since = time.time()
        self.spoke: float | None = None
        #: Why it is away, empty without a reason; None: it is here.
        self.away: str | None = None
        #: Who said something to it in private last.
        self.whispered: str | None = None

    @property
    def chosen(self) -> str | None:
        """The nick, if it has one."""
        return None if is_address(self.nick) else self.nick
