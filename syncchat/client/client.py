"""The public client class: one connection of a person or a program to a chat room."""

from __future__ import annotations

import contextlib
import logging
import secrets
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from typing import Self

from ..chat import events
from ..chat.commands import HELP_TEXT, Help, Quit, Reply, parse
from ..chat.dialects import LineFormat, lines_of
from ..chat.nicks import check_nick
from ..chat.room_names import check_room
from ..chat.sanitize import indent
from ..closecodes import ORDERLY
from ..errors import ConnectionClosed, NotConnected
from ..net import Deadline, WebSocket, bearer, connect, parse_url
from .events import Disconnected, Event, Gap, Inbox, Line, Reconnected, Sent, ending
from .link import Link
from .protocol import Protocol
from .reconnect import without_token
from .watched import RoomNews

__all__ = ["Client"]


logger = logging.getLogger("syncchat.client")

#: The largest message from the server, in bytes. A reply with history can be large, and
#: a server that does not speak ``syncchat.v1`` may send messages of any size.
_MAX_MESSAGE = 4 * 1024 * 1024

#: The most bytes that may wait for the server's network. This is more than the outbox
#: can hold before the server's dialect is known; all of that is then sent at once.
_MAX_BACKLOG = 64 * 1024 * 1024


class Client:
    r"""A connection of a person or a program to a chat room::

        with Client("ws://127.0.0.1:2000/ops", nick="robot") as client:
            client.say("hello")
            for event in client:
                print(*client.lines(event), sep="\n")

    The client reconnects by itself when the connection breaks or the server restarts.
    It sends each message until the server acknowledges it, and delivers every message
    of the room once and in order.

    The client sends plain lines, which the server cannot acknowledge, to a server that
    does not speak ``syncchat.v1``: one that does not agree to that subprotocol, or
    whose first message is not a ``welcome``, or that sends nothing for one second.
    Until the dialect is known, messages wait in the client.

    - ``nick``: the nick to ask for; by default the nick in the URL, or the client's
      address.
    - ``history``: how many of the last messages to fetch in each room that the client
      enters, 0 to 1,000.
    - ``reconnect``: False to stay disconnected after a break.
    - ``timeout``: seconds that connecting may take.
    - ``token``: the secret that the server asks for, or your own; by default the one in the URL.
      It is sent in a header, as URLs are often logged.
    - ``ssl_context``: the TLS settings for ``wss:``; by default the system's
      certificates are trusted.
    - ``on_event``: called without arguments when events have come for :meth:`receive`, for
      programs that wait for other things, too. On a thread of the client; it must not block.

    A client is in one room at a time; :class:`Clients` are in several.

    Raises :class:`~syncchat.errors.InvalidURL` for a bad URL, and
    :class:`~syncchat.errors.BadNick` for an invalid nick.

    Any thread may call every method. A background thread reads from the server between
    :meth:`connect` and :meth:`close`. Events wait for :meth:`receive`. Before the first
    call of :meth:`receive`, the client keeps only the last 10,000 events; after it, a
    full queue makes the client stop reading, and the server waits.
    """

    def __init__(
        self,
        url: str,
        *,
        nick: str | None = None,
        history: int = 0,
        reconnect: bool = True,
        timeout: float = 10.0,
        token: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        on_event: Callable[[], None] | None = None,
    ) -> None:
        parse_url(url)
        url, shown = without_token(url)
        token = shown if token is None else token
        #: The URL of the chat, without a token.
        self.url = url
        self._timeout = timeout
        self._headers = [] if token is None else [bearer(token)]
        self._ssl_context = ssl_context
        wanted = None if nick is None else check_nick(nick)
        protocol = Protocol(url, wanted, history=history)
        #: How many of the last messages to ask for when the client enters another room.
        self._history_on_join = protocol.history_on_join
        self._link = Link(self._connect, protocol, reconnect=reconnect, inbox=Inbox(on_event))
        #: The nick that sent the last private message. Written by the thread that receives.
        self._whispered: str | None = None
        #: The server's format for messages. Written by the thread that calls lines().
        self._form = LineFormat("{sender}: {text}")

    # The connection.

    def connect(self, *, wait: bool = False, timeout: float | None = None) -> Self:
        """Connect, for the first time or again after the end. Returns the client.

        ``wait``: if there is no server yet, try again until there is one, for ``timeout``
        seconds (None: no limit); the last attempt may end later. Without it, there is one
        attempt. :meth:`close` on another thread ends the wait.

        Raises the same exceptions as :func:`syncchat.net.connect`, those of the last attempt.
        An attempt that would fail again, such as one with a bad token, is the last one.
        """
        patience = Deadline.after(timeout if wait else 0)
        self._link.open(f"syncchat-client {self.url.partition('?')[0]}", patience)
        return self

    def leave(self, timeout: float | None = None) -> None:
        """Send a Close after all messages are acknowledged, without waiting for the reply.

        Events that the server still sends can be received. Raises the same exceptions
        as :meth:`flush`.
        """
        self.flush(timeout)
        self._link.begin_close()

    def close(self, timeout: float | None = None) -> list[events.Say | events.Action]:
        """Close the connection properly and free all resources. No effect on a closed client.

        Takes at most ``timeout`` seconds, by default 10. If the server does not reply
        by then, the connection is cut. An attempt to reconnect ends at once. Events
        that have arrived can still be received.

        Returns the messages that are not delivered, the oldest first: those that the server
        has not acknowledged by then. It may have got the first of them, up to 64. Call
        :meth:`flush` before, if it has to acknowledge all. If you connect this client again,
        it sends them again.
        """
        items = self._link.close(timeout)
        pending = (events.decode_from_client(item.text) for item in items)
        return [each for each in pending if isinstance(each, events.Say | events.Action)]

    def __enter__(self) -> Self:
        return self if self.opened else self.connect()

    def __exit__(self, *exc_info: object) -> None:
        undelivered = self.close()
        if undelivered:
            place = self.url.partition("?")[0]
            logger.warning("%s: %d messages were not delivered", place, len(undelivered))

    @property
    def opened(self) -> bool:
        """Whether it is between :meth:`connect` and :meth:`close`."""
        return self._link.opened

    @property
    def connected(self) -> bool:
        """Whether the client is in a room now, as far as the client knows.

        With a server of plain lines: whether there is a connection.
        """
        return self._link.ready

    @property
    def room(self) -> str | None:
        """The current room, or the last one; None if the server does not tell."""
        welcome = self._link.welcome
        return None if welcome is None else welcome.room

    @property
    def nick(self) -> str | None:
        """The client's nick; None if the server does not tell."""
        return self._link.nick or None

    @property
    def unacknowledged(self) -> int:
        """The number of messages that are not acknowledged or, in plain lines, not sent yet."""
        return self._link.unacknowledged

    @property
    def retry_in(self) -> float | None:
        """Seconds to the next attempt to reconnect, 0 during it; None if no attempt is planned."""
        return self._link.retry_in

    @property
    def close_code(self) -> int | None:
        """The close code (:attr:`WebSocket.close_code`); None until the final end."""
        end = self._link.end
        return None if end is None else end.code

    @property
    def close_reason(self) -> str | None:
        """The text that came with the close code; None until the final end."""
        end = self._link.end
        return None if end is None else end.reason

    # Sending.

    def say(self, text: str, timeout: float | None = None) -> str | None:
        """Send ``text`` to the room, even if it begins with a slash. Returns its nonce.

        Returns None if the server is known to speak plain lines, because they have no
        nonce. Later, an ``Error`` event with the nonce tells that the server refused
        the message; a ``Sent`` event tells that the server speaks plain lines.

        Blocks while the outbox is full: while 1,000 messages (or 4 Mi characters) wait for an
        acknowledgement, for at most ``timeout`` seconds (None: no limit; 0: never). A server
        with a rate limit (``Welcome.limits``) acknowledges at most that many messages a second.

        Raises :class:`~syncchat.errors.OutboxFull` when ``timeout`` has passed (with a server
        of plain lines, whose network does not take more: :class:`TimeoutError`); the message is
        not sent then, and those in the outbox stay there. Raises
        :class:`~syncchat.errors.ConnectionClosed` after the end,
        :class:`~syncchat.errors.NotConnected` while a server of plain lines is
        unreachable, :class:`RuntimeError` before :meth:`connect`, :class:`ValueError`
        for a text longer than the server's limit, :class:`TypeError` if ``text`` is not
        a str, and :class:`UnicodeEncodeError` for a lone surrogate.
        """
        if not isinstance(text, str):
            raise TypeError(f"a text must be str, not {type(text).__name__}")
        nonce = secrets.token_urlsafe(9)
        return nonce if self._link.post(events.Say(text, nonce), timeout) else None

    def act(self, text: str, timeout: float | None = None) -> str | None:
        """Send an action, as ``/me`` does. Returns and raises the same as :meth:`say`."""
        if not isinstance(text, str):
            raise TypeError(f"a text must be str, not {type(text).__name__}")
        nonce = secrets.token_urlsafe(9)
        return nonce if self._link.post(events.Action(text, nonce), timeout) else None

    def join(
        self,
        room: str,
        timeout: float | None = None,
        *,
        after: str | None = None,
        history: int | None = None,
    ) -> None:
        """Go to another room, after all messages sent so far. Blocks and raises as :meth:`say`.

        The server answers with a ``Welcome``, followed by all messages after the position
        ``after`` (``EPOCH:OFFSET``), or else by the room's last ``history`` messages; or with
        an ``Error``. By default, a watched room continues where it was last seen, and of another
        one come as many messages as this client asks for in each room. Also raises
        :class:`ValueError` for an invalid room name, unless the server speaks plain lines.
        """
        name = room if self._link.plain else check_room(room)
        if after is None and history is None:
            after = self._link.apply(lambda state: state.watched.place(name))
        last = self._history_on_join if history is None else history
        self._link.post(events.Join(name, after, 0 if after is not None else last), timeout)

    def watch(self, *rooms: str, after: Mapping[str, str] | None = None) -> None:
        """Watch rooms besides the current one, also after a reconnect; see :attr:`rooms_watched`.

        ``after`` has the positions (``EPOCH:OFFSET``) seen before; other rooms count from now on.
        The server answers with an ``Activity`` for each room, or an ``Error``, and tells of news
        at most once a second. A server of plain lines does not. Raises :class:`ValueError` for an
        invalid name or position, or for more than 200 rooms.
        """
        seen = {check_room(room): place for room, place in (after or {}).items()}
        wanted = {**dict.fromkeys(map(check_room, rooms)), **seen}
        self._link.apply(lambda state: state.watched.watch(wanted))

    def unwatch(self, *rooms: str) -> None:
        """Watch rooms no more. Raises :class:`ValueError` for an invalid name."""
        names = [check_room(room) for room in rooms]
        self._link.apply(lambda state: state.watched.unwatch(names))

    @property
    def rooms_watched(self) -> tuple[RoomNews, ...]:
        """The watched rooms, in the order in which they came, and what is new in them."""
        return self._link.apply(lambda state: state.news())

    def seen(self, room: str | None = None, place: str | None = None) -> None:
        """Note a place (``EPOCH:OFFSET``) as seen; by default the last one in the current room.

        The server keeps it for a person with a token (``Welcome.person``), whose other devices
        get it with their next ``Welcome``. Raises :class:`ValueError` for an invalid argument.
        """
        name = None if room is None else check_room(room)
        self._link.apply(lambda state: state.report(name, place))

    def reconnect(self) -> None:
        """Cut the connection and connect anew at once; during a break, do not wait any longer.

        No effect before :meth:`connect` and after the end. A client with ``reconnect=False``
        ends.
        """
        self._link.hurry()

    def ask(self, request: events.FromClient) -> None:
        """Send any other event (``Private``, ``Nick``, ``Search``); not repeated after a break.

        The answer arrives as an event. Raises the same exceptions as :meth:`say`, and
        :class:`~syncchat.errors.NotConnected` if the event cannot be sent now: during a
        break, and also between :meth:`connect` and the server's ``Welcome``. Receive
        that event first, or wait until :attr:`connected` is true.
        """
        self._link.ask(request)

    def ping(self) -> Future[float]:
        """Ping the server. The future's result is the round trip in seconds.

        Raises :class:`~syncchat.errors.ConnectionClosed` while there is no connection.
        The future fails with the same exception if the connection breaks before the
        pong.
        """
        return self._link.websocket.ping()

    def send_line(self, line: str, timeout: float | None = None) -> str | None:
        """Send ``line`` as a person would type it: ``/names`` is a command.

        Returns the nonce, or None if the command has none. A server of plain lines gets
        ``line`` unchanged. Raises :class:`ValueError` for an unknown or malformed
        command, and the same exceptions as :meth:`say` and :meth:`ask`.
        """
        plain = self._link.plain
        if plain:
            self._link.send_line(line, timeout)
            return None
        try:
            asked = parse(line)
        except events.BadEvent as exc:
            if plain is None:
                raise NotConnected("the server's commands are not known yet") from exc
            raise ValueError(str(exc)) from exc
        match asked:
            case events.Say():
                return self.say(asked.text, timeout)
            case events.Action():
                return self.act(asked.text, timeout)
            case events.Join():
                self.join(asked.room, timeout)
            case Help():
                self._link.put(Line(HELP_TEXT))
            case Quit():
                if asked.reason:
                    self.ask(events.Leave(asked.reason[: events.MAX_REASON]))
                self.leave(timeout)
            case Reply():
                self._reply(asked.text)
            case _:
                self.ask(asked)
        return None

    def flush(self, timeout: float | None = None) -> None:
        """Block until the server has acknowledged or refused all messages.

        With a server of plain lines: until the network has taken them. Raises
        :class:`TimeoutError`, and :class:`~syncchat.errors.ConnectionClosed` if the
        connection ends for good first.
        """
        self._link.flush(timeout)

    # Receiving.

    def receive(self, timeout: float | None = None) -> Event:
        """Wait for the next event and return it.

        Texts in it are as the server sent them: sanitize them before you print them to
        a terminal. Raises :class:`TimeoutError` after ``timeout`` seconds (None: no
        limit), :class:`~syncchat.errors.ConnectionClosed` after the last event, and
        :class:`RuntimeError` before :meth:`connect`.
        """
        event = self._link.receive(timeout)
        if isinstance(event, events.PrivateMessage) and event.nick != self._link.nick:
            self._whispered = event.nick
        return event

    def __iter__(self) -> Iterator[Event]:
        """Yield every event until the connection ends for good.

        Then raises :class:`~syncchat.errors.ConnectionClosed`, unless the end was
        orderly (code 1000, 1001 or none).
        """
        while True:
            try:
                event = self.receive()
            except ConnectionClosed as exc:
                if exc.code in ORDERLY:
                    return
                raise
            yield event

    def lines(self, event: Event) -> list[str]:
        """Format ``event`` as lines for people; messages in the server's format.

        Continuation lines are indented by four spaces more, except in a greeting and in
        messages that are shown without their sender.
        """
        match event:
            case Line():
                # Lines that the server has indented are indented again: the client cannot
                # tell the difference.
                return [indent(event.text)]
            case Gap(anew=True):
                return ["-> The server has restarted; earlier messages are no longer kept."]
            case Gap():
                return ["-> Some messages are missing here: the server no longer has them."]
            case Disconnected():
                return [ending(event.code, event.reason)]
            case Reconnected():
                return ["-> Reconnected."]
            case Sent():
                return []
            case events.Welcome():
                # Keep the last format if the server's is invalid: messages can be shown
                # all the same.
                with contextlib.suppress(ValueError):
                    self._form = LineFormat(event.format)
        return lines_of(event, self._form, self._link.nick)

    # Internals.

    def _reply(self, text: str) -> None:
        if self._whispered is None:
            raise ValueError("No private message to reply to.")
        self.ask(events.Private(self._whispered, text))

    def _connect(self, url: str, stop: threading.Event) -> WebSocket:
        return connect(
            url,
            ssl_context=self._ssl_context,
            headers=self._headers,
            subprotocols=[events.SUBPROTOCOL],
            stop=stop,
            open_timeout=self._timeout,
            max_message=_MAX_MESSAGE,
            max_backlog=_MAX_BACKLOG,
        )
