"""What a client and a server say to each other, over however many connections: no socket here."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import inf

from ..chat import events
from ..chat.nicks import is_address
from ..chat.sanitize import without_line_end
from .dialect import Dialect
from .events import Event, Line, Sent
from .outbox import Item, Outbox
from .tracker import Tracker

__all__ = ["Protocol"]

#: Seconds between the attempts to be called as before a break, whose end the
#: server may not have noticed yet. After a minute it is somebody else's name.
_NICK_AGAIN = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)

#: Characters a second that a line carries at least. The time that is allowed for is
#: doubled with each break, so often at most, until something is acknowledged.
_SLOWEST, _MOST_DOUBLINGS = 8192, 6

#: Seconds that a server may take to let a client into a room, besides the usual ones.
_ENTERING = 5.0

_IN_DOUBT = (
    "It may be said already: the connection broke, and the server now knows plain lines only."
)


class Protocol:
    """The client's half. Not for several threads at a time; times are on the monotonic clock."""

    def __init__(self, nick: str | None, *, history: bool, history_on_join: bool) -> None:
        self._history = history
        self.tracker = Tracker(history_on_join=history_on_join)
        self.outbox = Outbox()
        #: Of this connection, or the last.
        self.dialect = Dialect(None, 0.0, known=False)
        #: Connections that were lost since the last acknowledgement.
        self._fruitless = 0
        #: When this connection began, on the monotonic clock.
        self._opened_at = 0.0
        #: The server is known to speak our dialect.
        self._known = False
        #: The server of the last connection made itself known by its header.
        self._was_named = False
        #: What is said may go out: in plain lines, or because we are in a room.
        self.ready = False
        #: Plain lines that were sent before the dialect was certain, and are not kept.
        self._unkept = 0
        #: The errors still to come in answer to such lines, from a server of events.
        self._complaints = 0
        #: The room that the URL names, as the server calls it.
        self._first_room: str | None = None
        #: What to be called after a break.
        self._nick = nick
        #: How often that was asked for on this connection, and not answered yet.
        self._nick_asked = 0
        self._nick_pauses: Iterator[float] = iter(_NICK_AGAIN)
        self._nick_due = inf

    # Connections.

    @property
    def wishes(self) -> tuple[str | None, tuple[str, str] | None, str | None]:
        """The nick, the first room and the one to come back to, and the place there."""
        rooms = None
        if self._first_room is not None and self.tracker.room is not None:
            rooms = self._first_room, self.tracker.room
        return self._nick, rooms, self.tracker.place

    def begin(self, subprotocol: str | None, headers: Mapping[str, str], now: float) -> None:
        """A connection is there, on which :attr:`wishes` were asked for.

        ``headers`` are those of the server's answer, by lower-case names.
        """
        tracker = self.tracker
        tracker.expect(resume=tracker.place is not None, history=self._history)
        # A server that did not make itself known, and sent a welcome, is taken for
        # the same one after a break.
        named = events.VERSION_HEADER.lower() in headers
        known = named or (tracker.welcome is not None and not self._was_named)
        self._was_named = named
        self._known = known
        self.dialect = Dialect(subprotocol, now, known=known)
        self._opened_at = now
        self.ready = bool(self.dialect.plain)
        self._unkept = self._complaints = 0
        self._nick_asked = 0
        self._nick_pauses = iter(_NICK_AGAIN)
        self._nick_due = inf

    def lose(self) -> None:
        """The connection is lost."""
        self.ready = False
        self._fruitless += 1
        self.outbox.rewind(tried=self.dialect.plain is False)

    @property
    def owed(self) -> tuple[float | None, float]:
        """Since when the server has owed an acknowledgement, None: it owes none.

        And the seconds that this may take besides.
        """
        since, welcome = self.outbox.waiting_since, self.tracker.welcome
        if since is None or self.dialect.plain:
            return None, 0.0
        if self.dialect.plain is None:
            # The welcome is due, unless the server may be one that sends none.
            return (max(since, self._opened_at), _ENTERING) if self._known else (None, 0.0)
        if not self.ready or welcome is None:
            return None, 0.0
        # A server with a rate limit reads nothing while it holds a client up.
        rate = welcome.limits.rate
        pause = 1 / rate if rate > 0 else 0.0
        allowance = pause + self.outbox.sent_size / _SLOWEST
        # After breaks without an acknowledgement it may be the line that is slow.
        return since, allowance * 2.0 ** min(self._fruitless, _MOST_DOUBLINGS)

    # Time.

    @property
    def due_at(self) -> float:
        """When to call :meth:`pass_time` at the latest."""
        return min(self.dialect.due_at, self._nick_due)

    def pass_time(self, now: float) -> str | None:
        """Note that nothing more has come up to ``now``. Returns what is to be sent besides."""
        if self.dialect.pass_time(now):
            self.ready = True
            if not self.dialect.keeps:
                self._unkept += self.outbox.forget()
        if not self.ready or self.dialect.plain or self._nick in (None, self.tracker.nick):
            self._nick_due = inf
        elif self._nick_due == inf:
            self._nick_due = now + next(self._nick_pauses, inf)
        elif now >= self._nick_due:
            self._nick_due = inf
            self._nick_asked += 1
            return events.encode(events.Nick(self._nick or ""))
        return None

    # What comes.

    def read(self, message: str | bytes) -> Iterator[Event]:
        """Note a message of the server's. What the user is to be told of it."""
        if not isinstance(message, str):
            return
        dialect = self.dialect
        event = None
        if not dialect.plain or not dialect.certain:
            # An event of a later version may tell what this one does not know.
            with contextlib.suppress(events.BadEvent):
                event = events.decode_from_server(message)
        if dialect.hear(event):
            yield from self._recognize()
        if dialect.plain and dialect.certain:
            yield Line(without_line_end(message))
        elif event is not None and not self._answers_client(event):
            self._note(event)
            yield from self.tracker.feed(event)
            if isinstance(event, events.Welcome):
                # Said before the limit was known, it would end the connection.
                text = f"It is longer than the {event.limits.message} bytes of a message."
                for nonce in self.outbox.drop_larger(event.limits.message):
                    yield events.Error("too_big", text, nonce=nonce)

    def _recognize(self) -> Iterator[Event]:
        """The first message has told the dialect."""
        if self.dialect.plain:
            self.ready = True
            self.outbox.forget()
            for nonce in self.outbox.drop_tried():
                yield events.Error("unavailable", _IN_DOUBT, nonce=nonce)
            return
        # The server refuses lines as malformed: none of them has been said.
        self._complaints = self.outbox.recall() + self._unkept
        if self._unkept:
            text = f"{self._unkept} messages are lost: the server's welcome came after them."
            yield events.Error("unavailable", text)

    def _answers_client(self, event: events.FromServer) -> bool:
        """Whether it answers what this client has sent of its own accord."""
        if not isinstance(event, events.Error):
            return False
        if event.code == "malformed" and self._complaints:
            self._complaints -= 1
            return True
        if event.command == "nick" and self._nick_asked:
            self._nick_asked -= 1
            return True
        return False

    def _note(self, event: events.FromServer) -> None:
        """Take notice of what concerns the connection."""
        if isinstance(event, events.Message | events.Ack | events.Error) and event.nonce:
            self._fruitless = 0
            self.outbox.settle(event.nonce)
        elif isinstance(event, events.History):
            for message in event.messages:
                if message.nonce:
                    self.outbox.settle(message.nonce)
        elif isinstance(event, events.Welcome):
            self.outbox.settle(None)
            self._first_room = self._first_room or event.room
            returned = self.tracker.room == event.room
            if not returned or self._nick is None:
                self._nick = None if is_address(event.nick) else event.nick
            self.ready = True
        elif isinstance(event, events.Renamed) and event.old == self.tracker.nick:
            self._nick = event.nick
        elif isinstance(event, events.Error) and event.command == "join":
            self.outbox.settle(None)

    # What goes.

    def check_size(self, text: str) -> None:
        """Raise :class:`ValueError` for an event that the server would end the connection for."""
        welcome = self.tracker.welcome
        if welcome is not None and len(text.encode()) > welcome.limits.message:
            raise ValueError(f"it is longer than the {welcome.limits.message} bytes of a message")

    def say(self, item: Item) -> str | None:
        """Have ``item`` sent; its nonce, None in plain lines. Raises as :meth:`check_size`."""
        if self.dialect.plain:
            self.outbox.add(replace(item, announced=False))
            return None
        self.check_size(item.text)
        self.outbox.add(item)
        return item.nonce

    def next(self) -> tuple[Item, str] | None:
        """The next item that may be sent now, as it is to be sent. None: none."""
        waiting = self.outbox.first
        if not self.ready or waiting is None:
            return None
        dialect = self.dialect
        if dialect.plain and dialect.keeps and _is_event(waiting.line):
            # Which a server of our dialect would not refuse.
            return None
        item = self.outbox.next()
        return None if item is None else (item, item.line if dialect.plain else item.text)

    def sent(self, item: Item) -> Sent | None:
        """Note that ``item`` is sent. What the user is to be told of it."""
        if not self.dialect.plain:
            return None
        if self.dialect.keeps:
            self.outbox.set_aside(item.nonce)
        else:
            self.outbox.settle(item.nonce)
            self._unkept += not self.dialect.certain
        return Sent(item.nonce) if item.announced and item.nonce is not None else None


def _is_event(line: str) -> bool:
    try:
        events.decode_from_client(line)
    except events.BadEvent:
        return False
    return True
