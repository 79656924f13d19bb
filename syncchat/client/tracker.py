"""Tracks the position in a room's log, so that the client gets each message once and in order."""

from __future__ import annotations

from collections.abc import Iterator

from ..chat.events import Ack, FromServer, History, Message, Renamed, Welcome
from .events import Gap

__all__ = ["Tracker"]


class Tracker:
    """Follows the events of a server across reconnects. Only for one thread at a time.

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
        self._arriving = False
        #: Whether history was requested and has not arrived.
        self._awaiting = False

    @property
    def room(self) -> str | None:
        """The current room, or the last one."""
        return None if self.welcome is None else self.welcome.room

    @property
    def place(self) -> str | None:
        """The position of the last message as ``EPOCH:OFFSET``, to reconnect with; or None."""
        return None if self._last is None else f"{self._epoch}:{self._last}"

    def expect(self, *, resume: bool, history: bool) -> None:
        """Start on a new connection, which asked for the last position, or for ``history``."""
        if not resume:
            self._last = None
        self._awaiting = resume or history
        self._arriving = True

    def feed(self, event: FromServer) -> Iterator[FromServer | Gap]:
        """Note an event. Yields the events for the program."""
        if isinstance(event, Message):
            yield from self._message(event)
            return
        if isinstance(event, History) and event.command is None:
            yield from self._past(event)
            return
        if isinstance(event, Welcome):
            self._enter(event)
        elif isinstance(event, Renamed) and event.old == self.nick:
            self.nick = event.nick
        elif isinstance(event, Ack) and self._last is not None and event.offset == self._last + 1:
            # The client's own message, which the server acknowledges instead of sending it back.
            self._last = event.offset
        yield event

    def _enter(self, welcome: Welcome) -> None:
        if not self._arriving:
            # The client has entered another room.
            self._last, self._awaiting = None, self._history_on_join
        self._arriving = False
        self.welcome, self.nick = welcome, welcome.nick
        if not self._awaiting:
            # Messages are delivered from this offset on.
            self._epoch, self._last = welcome.epoch, welcome.offset

    def _past(self, history: History) -> Iterator[FromServer | Gap]:
        if self.welcome is None:
            return
        self._awaiting = False
        begin = history.messages[0].offset - 1 if history.messages else self.welcome.offset
        if not history.complete:
            yield Gap(self._last or 0, self.welcome.epoch)
        if not history.complete or self._last is None:
            self._last = begin
        # The epoch changes if nothing of this log was seen before.
        self._epoch = self.welcome.epoch
        for message in history.messages:
            yield from self._message(message)

    def _message(self, message: Message) -> Iterator[FromServer | Gap]:
        if self._last is None and self.welcome is not None:
            # History was requested, but the server sends none.
            self._epoch, self._last = self.welcome.epoch, message.offset - 1
        last = self._last or 0
        if message.offset <= last:
            return
        if message.offset > last + 1:
            yield Gap(last, self._epoch)
        self._last = message.offset
        yield message
