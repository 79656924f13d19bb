"""The chat server: a listener, its rooms, and its event log."""

from __future__ import annotations

import socket
import threading
from dataclasses import replace
from typing import Any, Self, Unpack, get_args

from ._version import __version__
from .chat import events
from .chat.dialects import LineFormat, dialects
from .chat.door import Door, DoorSettings
from .chat.gate import Gate, Guests
from .chat.hooks import Hooks, ReadOnly
from .chat.moderation import Moderation
from .chat.nicks import SERVER_NICK, check_nick
from .chat.people import People
from .chat.room_names import LOBBY, check_room
from .chat.rooms import RoomRegistry
from .chat.sanitize import clean
from .chat.session import Session
from .engine import Draft, check_people
from .eventlog import Listening, LogEvent, Stored, Warned, people_url
from .health import Metrics, Snapshot, for_monitors, health_view, metrics_view, reason_of
from .net import (
    Limits,
    Route,
    Server,
    ServerSettings,
    Stats,
    TokenCheck,
    TrustedProxies,
    View,
    WebSocket,
    are_loopback,
    format_address,
    parse_origin,
    parse_public_url,
    serve,
    wsgi_view,
)
from .server_log import LogForm, ServerLog
from .server_rooms import DEFAULT_FORMAT, DEFAULT_GREETING, DEFAULT_ROOMS, open_rooms
from .server_settings import (
    AccessSettings,
    ChangeableSettings,
    ChatServerSettings,
    ChatSettings,
    HookSettings,
    HttpSettings,
    LogSettings,
    PeopleSettings,
    StorageSettings,
    client_limits,
    taken,
)
from .uninterrupted import Uninterrupted
from .web import only_websockets, page_view, web_routes

__all__ = ["DEFAULT_FORMAT", "DEFAULT_GREETING", "DEFAULT_PORT", "DEFAULT_ROOMS", "ChatServer"]

DEFAULT_PORT = 2000


class ChatServer:
    """A chat server that any WebSocket client can join, with one room per URL path.

    To embed it::

        with ChatServer(port=0) as chat:
            print(chat.port)
            chat.say("Hello, everybody")

    - ``host``, ``port``: where to listen, as in :func:`syncchat.net.serve`.
    - ``token``: a secret that clients must present; see :class:`TokenCheck`. None: no token.
    - ``speaker_token``: a secret of clients that may speak in ``read_only`` rooms, too.
    - ``settings``: those of :class:`ChatSettings`, :class:`HookSettings`,
      :class:`StorageSettings`, :class:`AccessSettings`, :class:`PeopleSettings`,
      :class:`LogSettings` and :class:`HttpSettings`, and the limits of
      :class:`syncchat.net.Limits`. Here ``rate`` is 10 and ``burst`` is 20 by default.

    Raises :class:`ValueError` for a bad ``format``, ``engine``, origin, URL, network or limit,
    or for text with a lone surrogate, and :class:`TypeError` for an unknown setting.
    You can start and stop a server any number of times, and call every method from any
    thread.
    """

    def __init__(
        self,
        host: str | None = "127.0.0.1",
        port: int = DEFAULT_PORT,
        *,
        token: str | None = None,
        speaker_token: str | None = None,
        **settings: Unpack[ChatServerSettings],
    ) -> None:
        self._host = host
        self._asked_port = port
        tokens = _tokens(token, speaker_token)
        #: For monitors on other machines.
        self._monitors = TokenCheck(*tokens)
        rest: dict[str, Any] = dict(settings)
        self._people = taken(PeopleSettings, rest)
        self._guests = self._people.get("guests", "yes")
        if self._guests not in get_args(Guests):
            raise ValueError(f"guests must be yes, no or read, not {self._guests!r}")
        self._gate = Gate(self._guests, tokens, self._all_people)
        self._chat = taken(ChatSettings, rest)
        # Raise for a lone surrogate here; later it would fail at every send to a client.
        self._chat.get("greeting", "").encode()
        template = self._chat.get("format", DEFAULT_FORMAT)
        template.encode()
        self._dialects = dialects(LineFormat(template))
        self._speakers = TokenCheck(*_tokens(speaker_token, None))
        quiet = [check_room(room) for room in self._chat.get("read_only", ())]
        only_reads = self._gate.only_reads if self._guests == "read" else None
        self._read_only = ReadOnly(quiet, self._speakers.admits, only_reads)
        self._hooks = Hooks(**taken(HookSettings, rest))
        self._storage = taken(StorageSettings, rest)
        self._engine_name = self._storage.get("engine", "memory:")
        check_people(self._engine_name, self._people.get("people"))
        self._access = taken(AccessSettings, rest)
        self._access["origins"] = [parse_origin(each) for each in self._access.get("origins", ())]
        public_url = self._access.get("public_url")
        if public_url is not None:
            self._access["public_url"] = parse_public_url(public_url)
        TrustedProxies(self._access.get("trusted_proxies") or ())
        log = taken(LogSettings, rest)
        self._log_start = log.pop("log_start", True)
        write = log.pop("log", None)
        form: dict[str, Any] = dict(log)
        self._log = ServerLog(write, LogForm(**form))
        self._http = taken(HttpSettings, rest)
        self._wsgi = self._http.get("wsgi")
        #: Whether browsers get the chat as a page.
        self._web = self._http.get("web", self._wsgi is None)
        if self._web and self._wsgi is not None:
            raise ValueError("the pages of a chat with a WSGI application are the application's")
        self._limits: ServerSettings = {"rate": 10.0, "burst": 20, **taken(ServerSettings, rest)}
        Limits(**self._limits)
        #: Without a rate for others, robots have none either.
        self._robot_rate = self._limits["rate"] and self._people.get("robot_rate", 100.0)
        if rest:
            raise TypeError(f"ChatServer has no setting {', '.join(sorted(rest))}")
        #: Guards changes of the two fields below, by start and stop. First in the lock order.
        self._lock = threading.Lock()
        self._server: Server | None = None
        #: None while the server does not run.
        self._rooms: RoomRegistry | None = None
        self._metrics = Metrics()
        self._uninterrupted = Uninterrupted("syncchat-say")
        #: Written without the lock, since a signal handler may call request_stop().
        self._stop_requested = False

    # Running.

    @property
    def port(self) -> int:
        """The port: the real one while the server runs, otherwise the requested one."""
        server = self._server
        return self._asked_port if server is None else server.port

    def start(self) -> Self:
        """Listen, and serve in the background. Returns the server.

        Raises :class:`~syncchat.errors.AddressInUse` or
        :class:`~syncchat.errors.CannotListen`,
        :class:`~syncchat.errors.EngineUnusable`, and :class:`RuntimeError` if
        the server already runs.
        """
        self._listen().start()
        return self

    def serve_forever(self) -> None:
        """Listen, and serve on this thread until :meth:`request_stop` or :meth:`stop`.

        If the server runs in the background, wait for its end.
        Raises as :meth:`start` does. On an exception such as
        :class:`KeyboardInterrupt`, the server stops before the exception propagates.
        """
        server = self._server or self._listen()
        if self._stop_requested:
            server.request_stop()
        try:
            server.serve_forever()
        finally:
            self.stop()

    def request_stop(self) -> None:
        """Make :meth:`serve_forever` return soon. Takes no lock: signal handlers may call it."""
        self._stop_requested = True
        server = self._server
        if server is not None:
            server.request_stop()

    def stop(self, timeout: float = 1.5) -> None:
        """Close every connection (code 1001), end every thread, and free the port.

        See :meth:`syncchat.net.Server.stop` for ``timeout``, in seconds. Does nothing if the
        server does not run.
        """
        server = self._server
        if server is not None:
            server.stop(timeout)
            self._uninterrupted.close()
            with self._lock:
                if self._server is server:
                    self._server = None
                    self._stop_requested = False
                    rooms, self._rooms = self._rooms, None
                    if rooms is not None:
                        rooms.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def _listen(self) -> Server:
        with self._lock:
            if self._server is not None:
                raise RuntimeError("the chat server is already running")
            self._metrics = metrics = Metrics()
            server = serve(
                None,
                self._host,
                self._asked_port,
                converse=self._converse,
                subprotocols=[events.SUBPROTOCOL],
                response_headers=[(events.VERSION_HEADER, __version__)],
                authorize=self._gate,
                on_refused=self._log.refused,
                on_slow=self._log.slow,
                on_stop=self._interrupt,
                routes=self._all_routes(),
                **self._access,
                **self._limits,
            )
            try:
                self._rooms = open_rooms(
                    server,
                    metrics,
                    Limits(**self._limits),
                    self._chat,
                    self._storage,
                    self._people,
                    self._robot_rate,
                    self._read_only,
                )
                self._uninterrupted.open()
            except BaseException:
                server.stop()
                raise
            self._server = server
        if self._log_start:
            self._note_listening(server)
        return server

    def _all_routes(self) -> dict[str, View | Route]:
        siblings = self._http.get("siblings", list)
        health = health_view(self.snapshot, siblings, self._engine_name.partition(":")[0])
        numbers = metrics_view(lambda: self._metrics.numbers(self.stats()), siblings)
        pages: dict[str, View | Route]
        if self._wsgi is not None:
            other = wsgi_view(self._wsgi)
            pages = {"/*": Route(other, methods=None)}
        elif self._web:
            other, pages = page_view, web_routes(self._check_room_for)
        else:
            other = only_websockets
            pages = {"/*": other}
        if self._http.get("http", self._wsgi is None):
            pages |= dict.fromkeys(("/", "/*"), self._door(other).route)
        return {
            **pages,
            "/healthz": for_monitors(health, self._monitors),
            "/metrics": for_monitors(numbers, self._monitors),
            **self._http.get("routes", {}),
        }

    def _check_room_for(self, host: str) -> None:
        server = self._server
        if server is not None:
            server.check_room_for(host)

    def _door(self, other: View) -> Door:
        limits = client_limits(Limits(**self._limits))
        settings = DoorSettings(
            form=LineFormat(self._chat.get("format", DEFAULT_FORMAT)),
            limits=limits,
            robot_rate=self._robot_rate,
            hooks=self._hooks,
            other=other,
            is_beside_application=self._wsgi is not None,
            on_message=self._log.posted if self._log else None,
            on_begin=self._log.connected,
            on_end=self._log.disconnected,
        )
        return Door(lambda: self._rooms, settings)

    def _interrupt(self) -> None:
        rooms = self._rooms
        if rooms is not None:
            rooms.engine.interrupt()

    # For embedding programs.

    def reconfigure(self, **changed: Unpack[ChangeableSettings]) -> None:
        """Change these settings while clients are connected; nobody is disconnected.

        A setting that is left out gets its default, those of the log stay. Raises
        :class:`RuntimeError` if the server does not run, and :class:`ValueError` as
        :meth:`syncchat.net.Server.reconfigure`.
        """
        server = self._server
        if server is None:
            raise RuntimeError("the chat server is not running")
        rest: dict[str, Any] = dict(changed)
        token, speaker = rest.pop("token", None), rest.pop("speaker_token", None)
        access: dict[str, Any] = {"ssl_context": None, **taken(AccessSettings, rest)}
        server.reconfigure(**access)
        tokens = _tokens(token, speaker)
        for check, accepted in (
            (self._gate, tokens),
            (self._monitors, tokens),
            (self._speakers, _tokens(speaker, None)),
        ):
            check.replace(*accepted)
        self._log.form = replace(self._log.form, **rest)

    @property
    def sockets(self) -> list[socket.socket]:
        """The listening sockets, which stay the server's; none if it does not run."""
        server = self._server
        return [] if server is None else server.sockets

    def look(self) -> tuple[bool, str]:
        """Whether the server's threads do their work, and its state in a line.

        Waits for the engine. Raises as :meth:`stats`.
        """
        server, snapshot = self._server, self.snapshot()
        works = server is not None and server.answers()
        text = f"{snapshot.numbers.stats.connections} clients"
        return works, text if snapshot.failure is None else f"{text}; {snapshot.failure}"

    def note(self, event: LogEvent) -> None:
        """Write an event to the log."""
        self._log.note(event)

    def stats(self) -> Stats:
        """The server's counters since its start. Raises :class:`RuntimeError` before it."""
        server = self._server
        if server is None:
            raise RuntimeError("the chat server is not running")
        return server.stats()

    def snapshot(self) -> Snapshot:
        """The health, for which it asks the engine, and the numbers. Raises as :meth:`stats`."""
        rooms = self._rooms
        failure = reason_of(None if rooms is None else rooms.engine)
        return self._metrics.snapshot(self.stats(), failure)

    def say(self, text: str, room: str = LOBBY, nick: str = SERVER_NICK) -> None:
        """Send ``text`` to everybody in ``room``, from ``nick``.

        Never waits for a client. The message is kept like any other; ``on_message`` is not
        called for it. Raises :class:`TypeError` if ``text`` is not ``str``,
        :class:`UnicodeEncodeError` for a lone surrogate, :class:`ValueError` for an invalid room
        name, :class:`~syncchat.errors.BadNick` for an invalid nick,
        :class:`~syncchat.errors.NickTaken` for one that somebody in the room or a person has, and
        :class:`~syncchat.errors.RoomsFull`. Does nothing if the server does not run.
        """
        if not isinstance(text, str):
            raise TypeError(f"a text must be str, not {type(text).__name__}")
        (text + room).encode()
        draft = Draft(nick if nick == SERVER_NICK else check_nick(nick), clean(text))
        name, rooms = check_room(room), self._rooms
        if rooms is not None:
            self._uninterrupted.run(lambda: rooms.say(name, draft))

    def rooms(self) -> list[events.RoomCount]:
        """The rooms that have members, or for which messages are kept, sorted by name.

        This and the methods below raise :class:`RuntimeError` if the server does not run,
        :class:`~syncchat.errors.EngineFailed`, and :class:`ValueError` for an invalid room name.
        """
        return list(self._running().counts())

    def members(self, room: str = LOBBY) -> list[str]:
        """The nicks in ``room``, on all servers that share the engine, sorted by name."""
        return self._running().engine.names(check_room(room))

    def history(self, room: str = LOBBY, n: int = 50) -> list[events.Message]:
        """The last ``n`` messages that are kept of ``room``, the oldest first.

        They include everything that was said before the call.
        """
        name, rooms = check_room(room), self._running()
        return self._uninterrupted.run(lambda: rooms.history(name, n))

    def kick(self, nick: str, room: str = LOBBY, reason: str = "") -> bool:
        """Remove the member ``nick`` of ``room``, and close its connection with 1008.

        It is told ``reason``. Its client does not come back by itself, but a person can. Returns
        False if nobody has that nick there, on all servers that share the engine.
        """
        name, rooms = check_room(room), self._running()
        return self._uninterrupted.run(lambda: rooms.kick(name, nick, clean(reason)))

    def moderate(self, request: events.FromOperator, room: str = LOBBY) -> events.FromServer:
        """Do what an operator can ask for, as the console. Returns an ``Error`` if refused."""
        name, moderation = check_room(room), Moderation(self._running(), self._log.deed)
        return self._uninterrupted.run(lambda: moderation.act(None, name, request))

    def _all_people(self) -> People:
        rooms = self._rooms
        return People({}) if rooms is None else rooms.directory.people

    def _running(self) -> RoomRegistry:
        rooms = self._rooms
        if rooms is None:
            raise RuntimeError("the chat server is not running")
        return rooms

    # A client's session.

    def _converse(self, websocket: WebSocket) -> Session:
        rooms = self._rooms
        assert rooms is not None
        client = format_address(websocket.remote_address)
        return Session(
            websocket,
            self._dialects[websocket.subprotocol],
            rooms,
            Moderation(rooms, self._log.deed),
            on_message=self._log.message if self._log else None,
            on_begin=lambda: self._log.connected(client),
            on_end=lambda: self._log.disconnected(client),
            hooks=self._hooks,
        )

    # The log.

    def _note_listening(self, server: Server) -> None:
        secure = self._access.get("ssl_context") is not None
        url = people_url(
            self._host,
            server.addresses,
            secure=secure,
            web=self._web,
            public_url=self._access.get("public_url"),
        )
        self._log.note(Listening(server.port, url))
        guarded = bool(self._monitors) or self._guests == "no"
        secure = secure or url.startswith(("https:", "wss:"))
        if not (guarded and secure) and not are_loopback(server.addresses):
            self._log.note(Warned.of_open_port(server.port, guarded=guarded, secure=secure))
        if self._rooms is not None:
            self._log.note(Stored(self._rooms.engine.promise))


def _tokens(token: str | None, speaker_token: str | None) -> list[str]:
    """The tokens that let guests in."""
    tokens = [] if token is None else [token]
    return [*tokens, speaker_token] if tokens and speaker_token is not None else tokens
