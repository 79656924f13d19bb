"""The client's side of the conversation with a server, across reconnects; contains no socket."""

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

#: Seconds between the attempts to get the old nick back after a break: the server may
#: not have noticed the end of the old connection yet. After a minute, the nick belongs
#: to somebody else.
_NICK_AGAIN = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)

#: Characters per second of the slowest connection that does not count as dead. Each
#: break doubles the time allowed for an acknowledgement, up to so many doublings, until
#: the server acknowledges something.
_SLOWEST, _MOST_DOUBLINGS = 8192, 6

#: Additional seconds that a server may take to let a client into a room.
_ENTERING = 5.0

_IN_DOUBT = (
    "It may be said already: the connection broke, and the server now knows plain lines only."
)


class Protocol:
    """The client's half of the protocol. Not thread-safe. Times are on the monotonic clock."""

    def __init__(self, nick: str | None, *, history: bool, history_on_join: bool) -> None:
        self._history = history
        self.tracker = Tracker(history_on_join=history_on_join)
        self.outbox = Outbox()
        #: The dialect of this connection, or of the last one.
        self.dialect = Dialect(None, 0.0, known=False)
        #: The number of connections lost since the last acknowledgement.
        self._fruitless = 0
        #: When this connection began, on the monotonic clock.
        self._opened_at = 0.0
        #: Whether the server of the last connection sent the syncchat version header.
        self._was_named = False
        #: Whether items may be sent: the server takes plain lines, or the client is in a room.
        self.ready = False
        #: The number of plain lines that were sent before the dialect was certain and are not kept.
        self._unkept = 0
        #: The number of errors that a server of events still has to send in answer to such lines.
        self._complaints = 0
        #: The name that the server gives to the URL's room.
        self._first_room: str | None = None
        #: The nick to ask for after a break.
        self._nick = nick
        #: How many requests for that nick are unanswered on this connection.
        self._nick_asked = 0
        self._nick_pauses: Iterator[float] = iter(_NICK_AGAIN)
        self._nick_due = inf

    # Connections.

    @property
    def wishes(self) -> tuple[str | None, tuple[str, str] | None, str | None]:
        """The nick; the URL's room and the room to return to; and the position there."""
        rooms = None
        if self._first_room is not None and self.tracker.room is not None:
            rooms = self._first_room, self.tracker.room
        return self._nick, rooms, self.tracker.place

    def begin(self, subprotocol: str | None, headers: Mapping[str, str], now: float) -> None:
        """Start on a new connection, which was opened with :attr:`wishes`.

        ``headers`` are the headers of the server's handshake reply, by lower-case names.
        """
        tracker = self.tracker
        tracker.expect(resume=tracker.place is not None, history=self._history)
        # If the last server sent a welcome but no version header, assume that this is
        # the same server.
        named = events.VERSION_HEADER.lower() in headers
        known = named or (tracker.welcome is not None and not self._was_named)
        self._was_named = named
        self.dialect = Dialect(subprotocol, now, known=known)
        self._opened_at = now
        self.ready = bool(self.dialect.plain)
        self._unkept = self._complaints = 0
        self._nick_asked = 0
        self._nick_pauses = iter(_NICK_AGAIN)
        self._nick_due = inf

    def lose(self) -> None:
        """Note that the connection is lost."""
        self.ready = False
        self._fruitless += 1
        self.outbox.rewind(tried=self.dialect.plain is False)

    @property
    def owed(self) -> tuple[float | None, float]:
        """Since when the server has owed an acknowledgement, None if it owes none.

        And the additional seconds that the acknowledgement may take.
        """
        since, welcome = self.outbox.waiting_since, self.tracker.welcome
        if since is None or self.dialect.plain:
            return None, 0.0
        if self.dialect.plain is None:
            # The welcome is due, unless the server may be one that never sends it.
            return (max(since, self._opened_at), _ENTERING) if self.dialect.known else (None, 0.0)
        if not self.ready or welcome is None:
            return None, 0.0
        # A server with a rate limit stops reading from a client that exceeds it.
        rate = welcome.limits.rate
        pause = 1 / rate if rate > 0 else 0.0
        allowance = pause + self.outbox.sent_size / _SLOWEST
        # After breaks without an acknowledgement, the connection may just be slow.
        return since, allowance * 2.0 ** min(self._fruitless, _MOST_DOUBLINGS)

    # Time.

    @property
    def due_at(self) -> float:
        """When to call :meth:`pass_time` at the latest."""
        return min(self.dialect.due_at, self._nick_due)

    def pass_time(self, now: float) -> str | None:
        """Note that nothing has arrived up to ``now``. Returns an event to send, or None."""
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

    # Incoming messages.

    def read(self, message: str | bytes) -> Iterator[Event]:
        """Note a message of the server. Yields the events for the program."""
        if not isinstance(message, str):
            return
        dialect = self.dialect
        event = None
        if not dialect.plain or not dialect.certain:
            # Ignore events that this version does not know: the server may be newer.
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
                # Items from before the limit was known: the server would close the
                # connection for them.
                text = f"It is longer than the {event.limits.message} bytes of a message."
                for nonce in self.outbox.drop_larger(event.limits.message):
                    yield events.Error("too_big", text, nonce=nonce)

    def _recognize(self) -> Iterator[Event]:
        """Act on the dialect, which the first message has revealed."""
        if self.dialect.plain:
            self.ready = True
            self.outbox.forget()
            for nonce in self.outbox.drop_tried():
                yield events.Error("unavailable", _IN_DOUBT, nonce=nonce)
            return
        # The server refuses plain lines as malformed, so none of them has reached the room.
        self._complaints = self.outbox.recall() + self._unkept
        if self._unkept:
            text = f"{self._unkept} messages are lost: the server's welcome came after them."
            yield events.Error("unavailable", text)

    def _answers_client(self, event: events.FromServer) -> bool:
        """Whether ``event`` answers a request that the client itself made, not the program."""
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
        """Update the state of the connection."""
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

    # Outgoing messages.

    def check_size(self, text: str) -> None:
        """Raise :class:`ValueError` for an event that is longer than the server's limit.

        The server would close the connection for it.
        """
        welcome = self.tracker.welcome
        if welcome is not None and len(text.encode()) > welcome.limits.message:
            raise ValueError(f"it is longer than the {welcome.limits.message} bytes of a message")

    def say(self, item: Item) -> str | None:
        """Queue ``item``. Returns its nonce, None in plain lines. Raises as :meth:`check_size`."""
        if self.dialect.plain:
            self.outbox.add(replace(item, announced=False))
            return None
        self.check_size(item.text)
        self.outbox.add(item)
        return item.nonce

    def next(self) -> tuple[Item, str] | None:
        """Return the next item that may be sent now, and the text to send; None if none may."""
        waiting = self.outbox.first
        if not self.ready or waiting is None:
            return None
        dialect = self.dialect
        if dialect.plain and dialect.keeps and _is_event(waiting.line):
            # A server of syncchat.v1 would execute this line instead of refusing it:
            # wait until the dialect is certain.
            return None
        item = self.outbox.next()
        return None if item is None else (item, item.line if dialect.plain else item.text)

    def sent(self, item: Item) -> Sent | None:
        """Note that ``item`` is sent. Returns the event for the program, if there is one."""
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
