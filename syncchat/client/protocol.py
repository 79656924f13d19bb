"""The client's half of the protocol, across reconnects: a state machine without threads.

Inputs are method calls: a connection was opened, a message was received, some time has passed, the
connection was lost, the program says something. Outputs are what these calls return: events to
show, texts to send, the URL to connect to, and the delay before that. Contains no socket, no lock
and no clock. ``tests/client/vectors.json`` specifies the behavior.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from math import inf
from typing import assert_never

from ..chat import events
from ..chat.asked import PLACE_FORM
from ..chat.nicks import is_address
from ..chat.sanitize import without_line_end
from ..closecodes import TRY_AGAIN_LATER, retry_after
from ..errors import ConnectionClosed
from .dialect_guess import DialectGuess
from .events import Event, Line, Sent
from .outbox import Item, Outbox
from .reconnect import SILENCE, Liveness, asks_for_history, delays, history_of, is_final, url_for
from .tracker import Tracker
from .watched import RoomNews, WatchedRooms

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

#: Why the client reconnects and says messages once more.
_UNKNOWN = "it is unknown whether a message was stored"

_IN_DOUBT = "It may have been sent already: the server now supports plain lines only."


class Protocol:
    """The state of one client. Not thread-safe.

    ``url``, ``nick`` and ``history`` are those of :class:`~syncchat.Client`. ``random``
    returns numbers from 0 to 1. Times are seconds on any one clock.
    """

    def __init__(
        self,
        url: str,
        nick: str | None = None,
        *,
        history: int = 0,
        random: Callable[[], float] = random.random,
    ) -> None:
        self._url, self._history = url, history
        #: How many of the last messages to ask for when the client enters another room.
        self.history_on_join = history_of(url, history)
        self.tracker = Tracker(history_on_join=self.history_on_join > 0)
        self.watched = WatchedRooms()
        self.outbox = Outbox()
        #: The dialect of this connection, or of the last one.
        self.dialect = DialectGuess(None, 0.0, known=False)
        #: Whether texts may be sent: the server takes plain lines, or the client is in a room.
        self.ready = False
        #: The end of the connection, if the client must reconnect; None: it must not.
        self.break_off: ConnectionClosed | None = None
        self._random = random
        self._delays = delays(random)
        #: Whether there is a connection, and whether it has ever been ready.
        self._open = self._entered = False
        #: When this connection was opened, and the check whether it is dead.
        self._opened_at = -inf
        self._liveness = Liveness()
        #: When the program sent a private message, unless the server has said something since.
        self._asked_at = inf
        #: The number of connections lost since the last acknowledgement.
        self._fruitless = 0
        #: Whether the server of the last connection sent the syncchat version header.
        self._was_named = False
        #: The item that is being sent.
        self._going: Item | None = None
        #: The number of plain lines that were sent before the dialect was certain and are not kept.
        self._unkept = 0
        #: The number of errors that a server of events still has to send in answer to such lines.
        self._complaints = 0
        #: The name that the server gives to the URL's room.
        self._first_room: str | None = None
        #: The nick to ask for after a break.
        self._nick = nick
        #: How many requests for that nick are unanswered on this connection; the delays
        #: before the next ones; when the next one is due; whether it is to be sent now.
        self._nick_asked = 0
        self._nick_delays: Iterator[float] = iter(())
        self._nick_due = inf
        self._nick_now = False

    # Connections.

    @property
    def url(self) -> str:
        """The URL to connect to, with the nick, the room and the position to return to."""
        rooms = None
        if self._first_room is not None and self.tracker.room is not None:
            rooms = self._first_room, self.tracker.room
        return url_for(
            self._url,
            rooms=rooms,
            nick=self._nick,
            after=self.tracker.position,
            history=self._history,
        )

    def opened(self, subprotocol: str | None, headers: Mapping[str, str], now: float) -> None:
        """Note that a connection to :attr:`url` is open.

        ``headers`` are the headers of the server's handshake reply, by lower-case names.
        """
        self.tracker.expect(history=asks_for_history(self._url, self._history))
        # If the last server sent a welcome but no version header, assume that this is
        # the same server.
        named = events.VERSION_HEADER.lower() in headers
        known = named or (self.tracker.welcome is not None and not self._was_named)
        self._was_named = named
        self.dialect = DialectGuess(subprotocol, now, known=known)
        self._open, self._opened_at, self._liveness = True, now, Liveness()
        self._asked_at = inf
        self.break_off = None
        self.ready = self._entered = bool(self.dialect.plain)
        self._unkept = self._complaints = self._nick_asked = 0
        self._nick_delays = iter(_NICK_AGAIN)
        self._nick_due, self._nick_now = inf, False

    def closed(self, end: Exception) -> float | None:
        """Note the end of the connection, or of an attempt to open one.

        Returns the delay before the next attempt in seconds, None if that is useless.
        """
        if self._open:
            self._open = self.ready = False
            self._fruitless += 1
            self.outbox.rewind(tried=self.dialect.plain is False)
            if self._entered:
                self._delays = delays(self._random)
        if is_final(end):
            return None
        asked = retry_after(end.reason) if isinstance(end, ConnectionClosed) else None
        return next(self._delays) if asked is None else asked

    # Time.

    def woke(self, now: float) -> None:
        """Note that the machine has slept until now, so that the connection may be dead."""
        self._liveness.woke(now)

    def asked(self, now: float) -> None:
        """Note that the program has sent a request that the server answers soon."""
        self._asked_at = min(self._asked_at, now)

    def check(self, now: float, heard_at: float) -> tuple[float, bool]:
        """Note that the time is ``now``, and that the server last sent anything at ``heard_at``.

        Returns when to call this method again at the latest, and whether to ping the
        server now. Raises :class:`~syncchat.errors.ConnectionClosed` with code 1006 if
        a server that owes an answer has sent nothing at all after the last ping.
        """
        if now >= self.dialect.due_at:
            self.dialect.assume_plain()
            self._enter()
            if not self.dialect.keeps:
                self._unkept += self.outbox.forget()
        if not self.ready or self.dialect.plain or self._nick in (None, self.tracker.nick):
            self._nick_due, self._nick_now = inf, False
        elif self._nick_due == inf or now >= self._nick_due:
            self._nick_now = now >= self._nick_due
            self._nick_due = now + next(self._nick_delays, inf)
        again_at = min(self.dialect.due_at, self._nick_due)
        since = self.outbox.waiting_since
        if self.dialect.plain:
            return min(again_at, now + SILENCE), False
        # A message sent in the meantime is not overdue by the next check.
        owed: tuple[float | None, float] = (None, 0.0)
        if since is not None:
            owed = self._owed(since)
        elif self._asked_at < inf:
            owed = self._asked_at, 0.0
        ping_at, ping = self._liveness.check(now, heard_at, *owed)
        return min(again_at, ping_at), ping

    def _owed(self, since: float) -> tuple[float | None, float]:
        """Return the time since which an answer is due, and the extra seconds to allow for it.

        The time is None if no answer is due. ``since``: the time of the first item that
        is not acknowledged.
        """
        welcome = self.tracker.welcome
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

    def _enter(self) -> None:
        self.ready = self._entered = True

    # Received messages.

    def received(self, message: str | bytes, now: float) -> list[Event]:
        """Note a message of the server. Returns the events to show."""
        self._asked_at = inf
        if not isinstance(message, str):
            return []
        dialect = self.dialect
        event: events.FromServer | None = None
        if not dialect.plain or not dialect.certain:
            # Events that this version does not know are ignored: the server may be newer.
            try:
                event = events.decode_from_server(message)
            except events.BadEvent:
                if dialect.certain:
                    return []
        told: list[Event] = []
        if not dialect.certain and dialect.hear(event):
            told += self._recognize(now)
        if dialect.plain and dialect.certain:
            told.append(Line(without_line_end(message)))
        elif event is not None:
            told += self._act_on(event)
        return told

    def _act_on(self, event: events.FromServer) -> list[Event]:
        """Change the state as ``event`` says. Returns the events to show."""
        match event:
            case events.Message():
                if event.nonce:
                    self._fruitless = 0
                    self.outbox.resolve(event.nonce)
                return [*self.tracker.deliver(event)]
            case events.Ack():
                self._fruitless = 0
                self.outbox.resolve(event.nonce)
                self.tracker.skip(event.offset, event.epoch)
            case events.Error():
                return self._refused(event)
            case events.History():
                return self._resumed(event)
            case events.Welcome():
                return self._welcomed(event)
            case events.Renamed():
                if event.old == self.tracker.nick:
                    self.tracker.nick = self._nick = event.nick
            case (
                events.Joined()
                | events.Left()
                | events.Names()
                | events.PrivateMessage()
                | events.Rooms()
                | events.Whois()
                | events.Away()
                | events.Back()
                | events.Done()
                | events.Moderated()
                | events.Topic()
                | events.Motd()
                | events.ReadOnly()
                | events.Bans()
            ):
                pass
            case events.Activity():
                self.watched.note(event, self.tracker.room)
            case _:
                assert_never(event)
        return [event]

    def _refused(self, error: events.Error) -> list[Event]:
        # Answers to requests that the client itself made are not for the program.
        if error.code == "malformed" and self._complaints:
            self._complaints -= 1
            return []
        if error.command == "nick" and self._nick_asked:
            self._nick_asked -= 1
            return []
        if error.nonce:
            self._fruitless = 0
            if error.code == "unavailable" and self.outbox.is_repeated(error.nonce):
                # The message may be stored since it was said first.
                self.break_off = ConnectionClosed(TRY_AGAIN_LATER, _UNKNOWN)
                return []
            if self.outbox.resolve(error.nonce) is None:
                # It was answered after it had been said once more.
                return []
        if error.command == "join":
            self.outbox.resolve(None)
        return [error]

    def _resumed(self, history: events.History) -> list[Event]:
        for message in history.messages:
            if message.nonce:
                self.outbox.resolve(message.nonce)
        return [*self.tracker.resume(history)] if history.command is None else [history]

    def _welcomed(self, welcome: events.Welcome) -> list[Event]:
        join = self.outbox.resolve(None)
        self._first_room = self._first_room or welcome.room
        if self.tracker.room != welcome.room or self._nick is None:
            self._nick = None if is_address(welcome.nick) else welcome.nick
        self.watched.leave(self.tracker.room, self.tracker.position)
        self.watched.enter(welcome, anew=self.tracker.arriving)
        self.tracker.enter(welcome, history=None if join is None else _asks_for_history(join))
        self._enter()
        # The server would close the connection for items from before its limit was known.
        limit = welcome.limits.message
        text = f"It exceeds the limit of {limit} bytes for a message."
        dropped = self.outbox.drop_larger(limit)
        return [welcome, *(events.Error("too_big", text, nonce=nonce) for nonce in dropped)]

    def _recognize(self, now: float) -> list[Event]:
        """Act on the dialect, which the first message has revealed. Returns the events to show."""
        if self.dialect.plain:
            self._enter()
            self.outbox.forget()
            dropped = self.outbox.drop_tried()
            return [events.Error("unavailable", _IN_DOUBT, nonce=nonce) for nonce in dropped]
        # The server refuses plain lines as malformed, so none of them has reached the room.
        self._complaints = self.outbox.recall(now) + self._unkept
        if not self._unkept:
            return []
        text = f"{self._unkept} messages were lost: they arrived before the server's welcome."
        return [events.Error("unavailable", text)]

    # Texts to send.

    def encode(self, event: events.FromClient) -> str:
        """Return ``event`` as text. Raises :class:`ValueError` if the server's limit forbids it.

        The server would close the connection for it.
        """
        text = events.encode(event)
        welcome = self.tracker.welcome
        if welcome is not None and len(text.encode()) > welcome.limits.message:
            raise ValueError(
                f"it exceeds the limit of {welcome.limits.message} bytes for a message"
            )
        return text

    def say(self, event: events.Say | events.Action | events.Join, now: float) -> bool:
        """Queue ``event`` until the server has answered it.

        Returns False, without any effect, while too many events are unanswered. Raises
        :class:`ValueError` as :meth:`encode`, unless the server speaks plain lines.
        """
        match event:
            case events.Say(said, nonce):
                # A slash at the beginning would make the text a command.
                line = "/" + said if said.startswith("/") else said
            case events.Action(said, nonce):
                line = f"/me {said}"
            case events.Join(room):
                line, nonce = f"/join {room}", None
            case _:
                assert_never(event)
        plain = self.dialect.plain
        text = events.encode(event) if plain else self.encode(event)
        return self.outbox.add(Item(text, nonce, line, announced=not plain), now)

    def report(self, room: str | None, place: str | None) -> None:
        """Note a place as seen; by default, that of the current room.

        Raises :class:`ValueError` for a malformed place.
        """
        here, reached = self.tracker.room, self.tracker.position
        room = here if room is None else room
        if place is None and room == here and reached is not None and PLACE_FORM.fullmatch(reached):
            place = reached
        if room is not None and place is not None:
            self.watched.report(room, place)

    def news(self) -> tuple[RoomNews, ...]:
        """What is new in the watched rooms."""
        return self.watched.news(self.tracker.room, self.tracker.position)

    def next(self) -> str | None:
        """Return the next text to send, None if none may be sent now. Call :meth:`sent` after it.

        If the connection turns out to be lost, call :meth:`closed` instead.
        """
        dialect, waiting = self.dialect, self.outbox.waiting
        if not self.ready:
            return None
        request = self._request()
        if request is not None or not waiting:
            return request
        if dialect.plain and dialect.keeps and _is_event(waiting[0].line):
            # A server of syncchat.v1 would execute this line instead of refusing it:
            # wait until the dialect is certain.
            return None
        item = self.outbox.next()
        if item is None:
            return None
        if dialect.plain:
            self._going = item
            return item.line
        return item.text

    def _request(self) -> str | None:
        """The next request that is not repeated; None: there is none."""
        welcome = self.tracker.welcome
        if self.dialect.plain or welcome is None:
            return None
        if self._nick_now:
            self._nick_now = False
            self._nick_asked += 1
            return events.encode(events.Nick(self._nick or ""))
        return self.watched.next(welcome.limits.message)

    def sent(self) -> Sent | None:
        """Note that the last text of :meth:`next` is sent. Returns the event to show, if any."""
        item, self._going = self._going, None
        if item is None:
            return None
        if self.dialect.keeps:
            self.outbox.set_aside(item.nonce)
        else:
            self.outbox.resolve(item.nonce)
            self._unkept += not self.dialect.certain
        return Sent(item.nonce) if item.announced and item.nonce is not None else None


def _asks_for_history(join: Item) -> bool:
    """Whether ``join`` asks for messages of the room."""
    event = events.decode_from_client(join.text)
    return isinstance(event, events.Join) and (event.after is not None or event.history > 0)


def _is_event(line: str) -> bool:
    try:
        events.decode_from_client(line)
    except events.BadEvent:
        return False
    return True
