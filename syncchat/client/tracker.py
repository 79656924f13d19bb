"""Where a client is in its room's log, so that it gets each message once and in order."""

from __future__ import annotations

from collections.abc import Iterator

from ..chat.events import Ack, FromServer, History, Message, Renamed, Welcome
from .events import Gap

__all__ = ["Tracker"]


class Tracker:
    """Takes what the server says, over however many connections. For one thread at a time.

    ``history_on_join`` says whether the last messages of a room are asked for on
    going there.
    """

    def __init__(self, *, history_on_join: bool = False) -> None:
        self._history_on_join = history_on_join
        #: As of the last welcome, and what has happened since.
        self.welcome: Welcome | None = None
        self.nick = ""
        self._epoch = ""
        #: The last offset that was handed out; None: nothing of this log.
        self._last: int | None = None
        #: The welcome of this connection has not come.
        self._arriving = False
        #: History is asked for and has not come.
        self._awaiting = False

    @property
    def room(self) -> str | None:
        """The room that the client is in, or was last."""
        return None if self.welcome is None else self.welcome.room

    @property
    def place(self) -> str | None:
        """``EPOCH:OFFSET`` of the last message, to come back by; None: there is no such place."""
        return None if self._last is None else f"{self._epoch}:{self._last}"

    def expect(self, *, resume: bool, history: bool) -> None:
        """A connection begins, on which the last place, or so many messages, were asked for."""
        if not resume:
            self._last = None
        self._awaiting = resume or history
        self._arriving = True

    def feed(self, event: FromServer) -> Iterator[FromServer | Gap]:
        """What the user is to be told of it."""
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
            # One's own, where the server does not send it back.
            self._last = event.offset
        yield event

    def _enter(self, welcome: Welcome) -> None:
        if not self._arriving:
            # Into another room.
            self._last, self._awaiting = None, self._history_on_join
        self._arriving = False
        self.welcome, self.nick = welcome, welcome.nick
        if not self._awaiting:
            # The log begins here.
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
        # It is another one where nothing had been seen of the log before.
        self._epoch = self.welcome.epoch
        for message in history.messages:
            yield from self._message(message)

    def _message(self, message: Message) -> Iterator[FromServer | Gap]:
        if self._last is None and self.welcome is not None:
            # The past was asked for, and the server gives none.
            self._epoch, self._last = self.welcome.epoch, message.offset - 1
        last = self._last or 0
        if message.offset <= last:
            return
        if message.offset > last + 1:
            yield Gap(last, self._epoch)
        self._last = message.offset
        yield message
