"""The chat server: a listener, its rooms, and the lines it logs."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Sequence
from typing import Self, Unpack

from .chat.plain import HELP_TEXT, Command, LineFormat, Say, parse, reply
from .chat.rooms import LOBBY, Rooms, room_of
from .chat.safetext import clean, escape
from .chat.token import TokenCheck
from .net import Address, Group, Limits, Server, Stats, WebSocket, format_address, serve
from .net.limits import ServerSettings

__all__ = ["DEFAULT_FORMAT", "DEFAULT_GREETING", "DEFAULT_PORT", "ChatServer"]

DEFAULT_PORT = 2000
DEFAULT_GREETING = "Welcome to chat! Type a message"
DEFAULT_FORMAT = "{sender}: {text}"

#: Who says what :meth:`ChatServer.say` says.
_OWN_NAME = "server"


class ChatServer:
    """A chat that any WebSocket client can join, one room per path of the URL.

    To embed it::

        with ChatServer(port=0) as chat:
            print(chat.port)
            chat.say("Hello, everybody")

    - ``host``, ``port``: where to listen, as in :func:`syncchat.net.serve`.
    - ``greeting``: a new client's first message; empty for none. Who has heard
      it is in the room and misses nothing from then on.
    - ``echo``: whether a message reaches its sender too.
    - ``format``: how a message is shown, with ``{sender}`` and ``{text}``.
    - ``log``: called with each line of the event log, without its newline, on
      the thread where the event happened, so that calls may overlap; it must
      not block. None: no log.
    - ``token``: a secret that clients must know, as :class:`TokenCheck` has it.
    - ``ssl_context``, ``origins``: as in :func:`syncchat.net.serve`.
    - ``limits``: those of :class:`syncchat.net.Limits`. Here ``rate`` is 10 and
      ``burst`` 20 unless set.

    Raises :class:`ValueError` for a bad ``format``, or text with a lone surrogate.
    It can be started and stopped any number of times; every method may be
    called from any thread.
    """

    def __init__(
        self,
        host: str | None = "127.0.0.1",
        port: int = DEFAULT_PORT,
        *,
        greeting: str = DEFAULT_GREETING,
        echo: bool = True,
        format: str = DEFAULT_FORMAT,  # noqa: A002 - the flag's name
        log: Callable[[str], None] | None = None,
        token: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        origins: Sequence[str] = (),
        **limits: Unpack[ServerSettings],
    ) -> None:
        # A lone surrogate would fail at every client instead of here.
        greeting.encode()
        format.encode()
        self._host = host
        self._asked_port = port
        self._greeting = greeting
        self._echo = echo
        self._format = LineFormat(format)
        self._log = log
        self._authorize = None if token is None else TokenCheck(token)
        self._ssl_context = ssl_context
        self._origins = origins
        self._limits: ServerSettings = {"rate": 10.0, "burst": 20, **limits}
        Limits(**self._limits)
        self._rooms = Rooms()
        #: Guards ``_server``: start and stop, one at a time. First in the lock order.
        self._lock = threading.Lock()
        self._server: Server | None = None
        #: Written without the lock, see request_stop().
        self._stop_requested = False

    # Running.

    @property
    def port(self) -> int:
        """The port: the real one while the server runs, else the one asked for."""
        server = self._server
        return self._asked_port if server is None else server.port

    def start(self) -> Self:
        """Listen, and serve in the background. Returns the server.

        Raises :class:`~syncchat.errors.AddressInUse` or
        :class:`~syncchat.errors.CannotListen`, and :class:`RuntimeError` for a
        server that runs.
        """
        self._listen().start()
        return self

    def serve_forever(self) -> None:
        """Listen, and serve on this thread until :meth:`request_stop` or :meth:`stop`.

        Raises as :meth:`start` does. An exception such as
        :class:`KeyboardInterrupt` stops the server before it goes on.
        """
        server = self._listen()
        if self._stop_requested:
            server.request_stop()
        try:
            server.serve_forever()
        finally:
            self.stop()

    def request_stop(self) -> None:
        """Have :meth:`serve_forever` return soon; takes no lock, for signal handlers."""
        self._stop_requested = True
        server = self._server
        if server is not None:
            server.request_stop()

    def stop(self, timeout: float = 1.5) -> None:
        """Say goodbye to everybody (close code 1001), end every thread, free the port.

        As :meth:`syncchat.net.Server.stop`. Nothing for a server that does not run.
        """
        server = self._server
        if server is not None:
            server.stop(timeout)
            with self._lock:
                if self._server is server:
                    self._server = None
                    self._stop_requested = False

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def _listen(self) -> Server:
        with self._lock:
            if self._server is not None:
                raise RuntimeError("the chat server runs already")
            server = self._server = serve(
                self._converse,
                self._host,
                self._asked_port,
                ssl_context=self._ssl_context,
                origins=self._origins,
                authorize=self._authorize,
                on_refused=self._log_refused,
                on_slow=self._log_slow,
                **self._limits,
            )
        if self._log is not None:
            self._log(f"listening on port {server.port}")
        return server

    # What embedding programs do with it.

    def stats(self) -> Stats:
        """What the server has done since its start, in numbers.

        Raises :class:`RuntimeError` for a server that does not run.
        """
        server = self._server
        if server is None:
            raise RuntimeError("the chat server does not run")
        return server.stats()

    def say(self, text: str, room: str = LOBBY) -> None:
        """Say ``text`` to everybody in ``room``, in the server's name. Never blocks on a client.

        Raises :class:`TypeError` for what is no text, and
        :class:`UnicodeEncodeError` for a lone surrogate.
        """
        if not isinstance(text, str):
            raise TypeError(f"a text is str, not {type(text).__name__}")
        group = self._rooms.get(room)
        if group is not None:
            group.send(self._format.line(_OWN_NAME, clean(text)))

    # A client's conversation, on its own thread.

    def _converse(self, websocket: WebSocket) -> None:
        sender = format_address(websocket.remote_address)
        if self._log is not None:
            self._log(f"New connection from {sender}")
        try:
            room = room_of(websocket.request.path)
            with self._rooms.entered(room, websocket, self._greeting or None) as group:
                self._listen_to(websocket, sender, group)
        finally:
            if self._log is not None:
                self._log(f"Client {sender} disconnected")

    def _listen_to(self, websocket: WebSocket, sender: str, group: Group) -> None:
        exclude = () if self._echo else (websocket,)
        while True:
            lines: list[str] = []
            # All that came at once goes out at once. Binary messages are ignored.
            for message in websocket.recv_many():
                if not isinstance(message, str):
                    continue
                if self._log is not None:
                    self._log(f"Received from {sender}: {escape(message)}")
                meant = parse(message)
                if isinstance(meant, Say):
                    lines.append(self._format.line(sender, meant.text))
                elif meant is Command.QUIT:
                    group.send_many(lines, exclude)
                    group.settle()
                    return
                else:
                    # In its place: behind what the client said before.
                    group.send_many(lines, exclude)
                    lines.clear()
                    group.send_to(websocket, _answer(meant))
            group.send_many(lines, exclude)
            if websocket.closing:
                # It hears its own last words before it hears that it may go.
                group.settle()

    # The log.

    def _log_refused(self, address: Address, reason: str) -> None:
        if self._log is not None:
            self._log(f"Refused {format_address(address)}: {escape(reason)}")

    def _log_slow(self, websocket: WebSocket) -> None:
        if self._log is not None:
            who = format_address(websocket.remote_address)
            self._log(f"Client {who} is {websocket.close_reason}")


def _answer(meant: Command | str) -> str:
    """What the system says to a command, or to the name of one that there is not."""
    if meant is Command.HELP:
        return reply(HELP_TEXT)
    return reply(f"There is no command /{meant}. {HELP_TEXT}")
