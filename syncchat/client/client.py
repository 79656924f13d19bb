"""The client: one person's, or program's, place in a chat room."""

from __future__ import annotations

import contextlib
import secrets
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Self

from ..chat import events
from ..chat.commands import HELP_TEXT, Help, Quit, Reply, parse
from ..chat.lines import LineFormat, lines_of
from ..chat.nicks import BadNick, check_nick
from ..chat.rooms import check_room
from ..chat.sanitize import indent
from ..chat.token import bearer
from ..closecodes import ORDERLY
from ..errors import ConnectionClosed, NotConnected
from ..net import Deadline, WebSocket, connect
from ..net.connector import parse_url
from .events import Disconnected, Event, Gap, Line, Reconnected, Sent, ending
from .link import Link
from .outbox import Item
from .protocol import Protocol
from .reconnect import asks_for_past, history_of, url_for

__all__ = ["Client"]

#: Bytes of a message from the server: a piece of history takes some, and
#: servers of other makes send what they like.
_MAX_MESSAGE = 4 * 1024 * 1024

#: Bytes that may wait for the server: more than all that is said before the
#: server's dialect is known, which is then sent at once.
_MAX_BACKLOG = 64 * 1024 * 1024


class Client:
    r"""One person's, or program's, place in a chat room::

        with Client("ws://127.0.0.1:2000/ops", nick="robot") as client:
            client.say("hello")
            for event in client:
                print(*client.lines(event), sep="\n")

    What is said is sent until the server has acknowledged it, and every message
    of the room is received once and in order, over breaks of the connection
    and restarts of the server, from which the client comes back by itself. A
    server that does not speak ``syncchat.v1`` is talked to in plain lines, of
    which none can be acknowledged: one that does not agree to it, or whose first
    message is no ``welcome``, or that says nothing for a second. What is said
    before that is known waits, and is sent then.

    - ``nick``: what to be called; by default what the URL says, or one's address.
    - ``history``: how many of the last messages to begin with, in each room that
      is entered, 0 to 1,000.
    - ``reconnect``: False for a client that does not come back.
    - ``timeout``: seconds that connecting may take.
    - ``token``: the secret that the server asks for.
    - ``ssl_context``: what ``wss:`` trusts, by default the system's certificates.

    Raises :class:`~syncchat.errors.InvalidURL`, and :class:`ValueError` for
    what cannot be a nick. Every method may be called from any thread. A thread
    of its own, from :meth:`connect` to :meth:`close`, reads what comes. Events
    wait for :meth:`receive`: as long as nobody has ever asked for one, only the
    last 10,000; from then on the server waits, too.
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
    ) -> None:
        parse_url(url)
        #: Where the chat is.
        self.url = url
        self._history = history
        self._timeout = timeout
        self._headers = [] if token is None else [bearer(token)]
        self._ssl_context = ssl_context
        try:
            wanted = None if nick is None else check_nick(nick)
        except BadNick as exc:
            raise ValueError(str(exc)) from exc
        #: How many of the last messages of a room to ask for on going there.
        self._history_on_join = history_of(url, history)
        protocol = Protocol(
            wanted,
            history=asks_for_past(url, history),
            history_on_join=self._history_on_join > 0,
        )
        self._link = Link(self._dial, protocol, reconnect=reconnect)
        #: Who said something to us alone last. Written by who receives.
        self._whispered: str | None = None
        #: How messages are shown. Written by who shows them.
        self._form = LineFormat("{sender}: {text}")

    # The connection.

    def connect(self) -> Self:
        """Connect, for the first time or after the end; returns the client.

        Raises what :func:`syncchat.net.connect` does: a first time, it does not
        wait for a server to come up.
        """
        self._link.open(f"syncchat-client {self.url.partition('?')[0]}")
        return self

    def leave(self, timeout: float | None = None) -> None:
        """Say goodbye once all that was said is acknowledged, without waiting for the answer.

        What the server had still to send can be received. Raises as :meth:`flush` does.
        """
        self.flush(timeout)
        self._link.begin_close()

    def close(self, timeout: float | None = None) -> None:
        """Leave with a proper close, and give everything back. Nothing if it is closed.

        Takes ``timeout`` seconds at most, by default 10: a server that does not
        answer by then is cut off, and an attempt to come back ends at once. What
        is not acknowledged by then may be lost: :meth:`flush` first. What has
        come can still be received.
        """
        self._link.close(timeout)

    def __enter__(self) -> Self:
        return self if self._link.opened else self.connect()

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def connected(self) -> bool:
        """Whether one is in a room at this moment, as far as is known.

        Of a server of plain lines: whether there is a connection.
        """
        return self._link.ready

    @property
    def room(self) -> str | None:
        """The room that one is in, or was last; None where the server does not say."""
        welcome = self._link.welcome
        return None if welcome is None else welcome.room

    @property
    def nick(self) -> str | None:
        """What one is called; None where the server does not say."""
        return self._link.nick or None

    @property
    def unacknowledged(self) -> int:
        """How many messages wait for the server's acknowledgement, or to be sent in plain lines."""
        return self._link.unacknowledged

    @property
    def retry_in(self) -> float | None:
        """Seconds to the next attempt to come back, 0 during it; None where there is none."""
        return self._link.retry_in

    @property
    def close_code(self) -> int | None:
        """How it ended, None while it is not over: :attr:`WebSocket.close_code`."""
        end = self._link.end
        return None if end is None else end.code

    @property
    def close_reason(self) -> str | None:
        """The text that came with the close code, None while it is not over."""
        end = self._link.end
        return None if end is None else end.reason

    # Saying.

    def say(self, text: str, timeout: float | None = None) -> str | None:
        """Say ``text`` to the room, whatever it begins with. Returns its nonce, if it has one.

        An ``Error`` with that nonce says that the server has refused it, ``Sent``
        that the server is one of plain lines. Waits where 1,000 messages wait to
        be acknowledged already, for ``timeout`` seconds, and then raises
        :class:`TimeoutError`: a server with a rate limit (``Welcome.limits``)
        acknowledges that many a second. Raises
        :class:`~syncchat.errors.ConnectionClosed` where it is over,
        :class:`~syncchat.errors.NotConnected` where a server of plain lines is
        away, :class:`RuntimeError` before :meth:`connect`, :class:`ValueError`
        for a text that is longer than the server takes, :class:`TypeError` for
        what is no text, :class:`UnicodeEncodeError` for a lone surrogate.
        """
        return self._say(events.Say, text, timeout)

    def act(self, text: str, timeout: float | None = None) -> str | None:
        """Do something, as ``/me`` does. As :meth:`say`."""
        return self._say(events.Action, text, timeout)

    def join(self, room: str, timeout: float | None = None) -> None:
        """Go to another room, behind what was said before. As :meth:`say`.

        The answer is a ``Welcome``, and the last messages there where this client
        asks for some (``history``), or an ``Error``. Raises :class:`ValueError` for
        what is no room's name, except with a server of plain lines.
        """
        name = room if self._link.plain else check_room(room)
        request = events.Join(name, history=self._history_on_join)
        item = Item(events.encode(request), None, f"/join {room}")
        self._link.post(item, Deadline.after(timeout))

    def ask(self, request: events.FromClient) -> None:
        """Send any other event: ``Private``, ``Nick``, ``Search``; not again after a break.

        The answer is an event. Raises what :meth:`say` does, and
        :class:`~syncchat.errors.NotConnected` where it cannot be sent now.
        """
        self._link.ask(events.encode(request))

    def ping(self) -> Future[float]:
        """Ping the server; the result is the round trip in seconds.

        Raises :class:`~syncchat.errors.ConnectionClosed` at a break, as the
        future does where the pong does not come.
        """
        return self._link.websocket.ping()

    def send_line(self, line: str, timeout: float | None = None) -> str | None:
        """Send ``line`` as a person would type it: ``/names`` is a command.

        Returns the nonce of what has one. Raises :class:`ValueError` for a
        command that there is not, or wrong, and as :meth:`say` and :meth:`ask` do.
        A server of plain lines gets ``line`` as it is.
        """
        plain = self._link.plain
        if plain:
            self._link.send_line(line, Deadline.after(timeout))
            return None
        try:
            asked = parse(line)
        except events.BadEvent as exc:
            if plain is None:
                raise NotConnected("which commands the server has is not known yet") from exc
            raise ValueError(str(exc)) from exc
        if isinstance(asked, events.Say | events.Action):
            return self._say(type(asked), asked.text, timeout)
        if isinstance(asked, events.Join):
            self.join(asked.room, timeout)
        elif isinstance(asked, Help):
            self._link.hand([Line(HELP_TEXT)])
        elif isinstance(asked, Quit):
            self.leave(timeout)
        elif isinstance(asked, Reply):
            if self._whispered is None:
                raise ValueError("Nobody has said anything to you alone.")
            self.ask(events.Private(self._whispered, asked.text))
        else:
            self.ask(asked)
        return None

    def flush(self, timeout: float | None = None) -> None:
        """Block until the server has acknowledged, or refused, all that was said.

        Where that is not to be had, until the network has taken it. Raises
        :class:`TimeoutError`, and :class:`~syncchat.errors.ConnectionClosed`
        where it is over before.
        """
        self._link.flush(Deadline.after(timeout))

    # Hearing.

    def receive(self, timeout: float | None = None) -> Event:
        """The next event.

        Texts in it are as the server sent them: clean them before a terminal
        sees them. Raises :class:`TimeoutError` after ``timeout`` seconds, and
        :class:`~syncchat.errors.ConnectionClosed` after the last event.
        """
        # Raises where there never was a connection.
        self._link.websocket  # noqa: B018
        event = self._link.receive(Deadline.after(timeout))
        if isinstance(event, events.PrivateMessage) and event.nick != self._link.nick:
            self._whispered = event.nick
        return event

    def __iter__(self) -> Iterator[Event]:
        """Every event until it is over.

        Raises :class:`~syncchat.errors.ConnectionClosed` at the end where it
        was not closed in order (code 1000, 1001 or none).
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
        """``event`` as lines for people, messages as the server's operator wants them shown.

        Continuation lines are indented by four blanks before their own, except for
        those of a greeting, and of messages that are shown without their sender.
        """
        if isinstance(event, Line):
            # Also where the server has indented them: the client cannot know that.
            return [indent(event.text)]
        if isinstance(event, Gap):
            return ["-> Some messages are missing here: the server has them no more."]
        if isinstance(event, Disconnected):
            return [ending(event.code, event.reason)]
        if isinstance(event, Reconnected):
            return ["-> Connected again."]
        if isinstance(event, Sent):
            return []
        if isinstance(event, events.Welcome):
            # A format of a stranger's that is none is not worth a conversation.
            with contextlib.suppress(ValueError):
                self._form = LineFormat(event.format)
        return lines_of(event, self._form, self._link.nick)

    # Underneath.

    def _dial(
        self,
        nick: str | None,
        rooms: tuple[str, str] | None,
        after: str | None,
        stop: threading.Event,
    ) -> WebSocket:
        return connect(
            url_for(self.url, rooms=rooms, nick=nick, after=after, history=self._history),
            ssl_context=self._ssl_context,
            headers=self._headers,
            subprotocols=[events.SUBPROTOCOL],
            stop=stop,
            open_timeout=self._timeout,
            max_message=_MAX_MESSAGE,
            max_backlog=_MAX_BACKLOG,
        )

    def _say(
        self, kind: type[events.Say | events.Action], text: str, timeout: float | None
    ) -> str | None:
        if not isinstance(text, str):
            raise TypeError(f"a text is str, not {type(text).__name__}")
        text.encode()
        if kind is events.Action:
            line = f"/me {text}"
        else:
            # A slash at the beginning would make it a command.
            line = "/" + text if text.startswith("/") else text
        nonce = secrets.token_urlsafe(9)
        item = Item(events.encode(kind(text, nonce)), nonce, line)
        return self._link.post(item, Deadline.after(timeout))
