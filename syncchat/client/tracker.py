"""Tracks the position in a room's log, so that the client gets each message once and in order."""

from __future__ import annotations

from ..chat.events import History, Message, Welcome
from .events import Gap

__all__ = ["Tracker"]


class Tracker:
    """The position of one client, kept across reconnects. A part of the state machine.

    ``history_on_join`` says whether the client asks for the last messages of a room
    that it joins.
    """

    def __init__(self, *, history_on_join: bool = False) -> None:
        self._history_on_join = history_on_join
        #: The last welcome, and the current nick.
        self.welcome: Welcome | None = None
        self.nick = ""
        self._epoch = ""
        #: The last offset that was delivered; None if none of this log was.
        self._last: int | None = None
        #: Whether the welcome of this connection is still to come.
        self.arriving = False
        #: Whether history was requested and has not arrived.
        self._awaiting = False

    @property
    def room(self) -> str | None:
        """The current room, or the last one."""
        return None if self.welcome is None else self.welcome.room

    @property
    def position(self) -> str | None:
        """The position of the last message as ``EPOCH:OFFSET``, to reconnect with; or None."""
        return None if self._last is None else f"{self._epoch}:{self._last}"

    def expect(self, *, history: bool) -> None:
        """Start on a new connection, which asked for the position, or else for ``history``."""
        self._awaiting = history or self._last is not None
        self.arriving = True

    def enter(self, welcome: Welcome, *, history: bool | None = None) -> None:
        """Note that the client is in a room.

        ``history``: whether it asked for messages of that room; None: as it does usually.
        """
        if not self.arriving:
            # The client has entered another room.
            self._last = None
            self._awaiting = self._history_on_join if history is None else history
        self.arriving = False
        self.welcome, self.nick = welcome, welcome.nick
        if not self._awaiting:
            # Messages are delivered from this offset on.
            self._epoch, self._last = welcome.epoch, welcome.offset

    def resume(self, history: History) -> list[Message | Gap]:
        """Note a ``history`` that the client has got without asking. Returns what to show."""
        if self.welcome is None:
            return []
        self._awaiting = False
        begin = history.messages[0].offset - 1 if history.messages else self.welcome.offset
        told: list[Message | Gap] = []
        if not history.complete:
            anew = begin == 0 and self._epoch != self.welcome.epoch
            told.append(Gap(self._last or 0, self.welcome.epoch, anew))
        if not history.complete or self._last is None:
            self._last = begin
        # The epoch changes if nothing of this log was seen before.
        self._epoch = self.welcome.epoch
        for message in history.messages:
            told += self.deliver(message)
        return told

    def deliver(self, message: Message) -> list[Message | Gap]:
        """Note a message of the room. Returns what to show: nothing for one that was shown."""
        if self._last is None and self.welcome is not None:
            # History was requested, but the server sends none.
            self._epoch, self._last = self.welcome.epoch, message.offset - 1
        last = self._last or 0
        if message.offset <= last:
            return []
        self._last = message.offset
        if message.offset == last + 1:
            return [message]
        return [Gap(last, self._epoch), message]

    def skip(self, offset: int, epoch: str) -> None:
        """Note that ``offset`` is the client's own message, acknowledged but not sent back."""
        if epoch == self._epoch and self._last is not None and offset == self._last + 1:
            self._last = offset
