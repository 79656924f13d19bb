"""The Redis that a URL names: its address, its password, and whether it can be reached.

redis-py makes the connections: TLS, sentinels, passwords. Commands and replies pass it by, through
hiredis: what it does besides takes longer than a batch takes Redis.
"""

from __future__ import annotations

import logging
import selectors
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, urlencode, urlsplit

from hiredis import Reader, pack_command
from redis.backoff import NoBackoff
from redis.connection import ConnectionPool
from redis.exceptions import InvalidResponse, ResponseError
from redis.retry import Retry
from redis.sentinel import Sentinel

__all__ = ["Argument", "Command", "Link", "RedisServer", "Reply", "reason_of"]

logger = logging.getLogger("syncchat.engine")

#: Seconds that a connection may take to be made, and that Redis may take to answer.
_CONNECT_SECONDS, _ANSWER_SECONDS = 1.0, 3.0

#: Seconds for which commands wait for a link that broke. After that they fail at once.
_PATIENCE = 2.0

#: The port of a sentinel whose URL names none.
_SENTINEL_PORT = 26379

#: How the replies of a Redis begin that is not there for any command: it reads its data, or it is
#: a replica without its master.
_AWAY = ("LOADING ", "MASTERDOWN ")

#: Bytes that are read at a time.
_READ_SIZE = 256 * 1024

#: A command and its arguments.
Argument = str | bytes | float
Command = Sequence[Argument]

#: What Redis replies.
Reply: TypeAlias = Any

#: redis-py's connection and sentinels, which are not typed throughout.
_Connection: TypeAlias = Any
_Sentinel: Any = Sentinel

#: Its declaration asks for a tuple of one.
_pack: Any = pack_command


class Link:
    """A connection to Redis that is ready for commands. One thread at a time may use it.

    Its methods raise :class:`RedisError` or :class:`OSError` if it is lost.
    """

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        sock = connection._get_socket()  # noqa: SLF001 - redis-py has no other way
        if sock is None:
            raise ConnectionError("the connection is closed")
        self.socket: socket.socket = sock
        self._reader = Reader(InvalidResponse, ResponseError, notEnoughData=self)
        self._selector = selectors.DefaultSelector()
        self._selector.register(sock, selectors.EVENT_READ)

    def send(self, commands: Sequence[Command]) -> None:
        """Send commands."""
        self.socket.sendall(b"".join([_pack(tuple(command)) for command in commands]))

    def reply(self) -> Reply:
        """Wait for the next reply: an instance of ``ResponseError`` if Redis refuses."""
        while (reply := self._reader.gets()) is self:
            self._receive()
        if isinstance(reply, ResponseError) and str(reply).startswith(_AWAY):
            raise ConnectionError(str(reply))
        return reply

    def replies(self) -> Iterator[Reply]:
        """Read once what has arrived, and return the replies that are complete."""
        self._receive()
        while (reply := self._reader.gets()) is not self:
            yield reply

    def has_input(self) -> bool:
        """Whether something has arrived, or the other end is closed."""
        return bool(self._selector.select(0))

    def let_kernel_wait(self, seconds: float = _ANSWER_SECONDS) -> None:
        """Have the kernel apply the time limit: Python's own costs a system call for each read."""
        # Not for an SSLSocket, which would not understand it.
        if sys.platform == "linux" and type(self.socket) is socket.socket:
            limit = struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
            self.socket.settimeout(None)
        else:
            self.socket.settimeout(seconds)

    def interrupt(self) -> None:
        """End a call that waits. From any thread."""
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return

    def close(self) -> None:
        """Close the connection."""
        self._selector.close()
        self._connection.disconnect()

    def _receive(self) -> None:
        try:
            data = self.socket.recv(_READ_SIZE)
        except BlockingIOError as exc:
            raise TimeoutError("it does not answer") from exc
        if not data:
            raise ConnectionError("it has closed the connection")
        self._reader.feed(data)


class RedisServer:
    """Where Redis is, and whether it is there. From any thread.

    ``url`` is ``redis://HOST:PORT/DB``, ``rediss://...``, ``redis+unix://PATH`` or
    ``redis+sentinel://HOST:PORT,.../SERVICE/DB``, with user, password and redis-py's options.
    ``?password_file=FILE`` names a file with the password, or with the user in its first line and
    the password in the second. It is read for each connection.
    """

    def __init__(self, url: str) -> None:
        self._settings: dict[str, Any] = {
            "socket_timeout": _ANSWER_SECONDS,
            "socket_connect_timeout": _CONNECT_SECONDS,
            # A retry is ours: only a script that knows its batch can be repeated.
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
            "driver_info": None,
        }
        #: The sentinels, and the service of which they know the master.
        self._sentinels: list[tuple[str, int]] = []
        self._service = ""
        plain, self._password_file = _without_password_file(url)
        plain = plain.replace("redis+unix:", "unix:", 1)
        if url.startswith("redis+sentinel:"):
            plain = self._take_sentinels(plain)
        pool = ConnectionPool.from_url(plain, client_name="syncchat", **self._settings)
        self._kind: type[_Connection] = pool.connection_class
        self._arguments: dict[str, Any] = pool.connection_kwargs
        self.database = int(self._arguments.get("db", 0))
        #: Whether failures are logged. At the start, they are raised.
        self.logs = False
        #: The URL without user and password.
        self.name = _shown(url)
        #: Guards the field below. No other lock is taken under it.
        self._lock = threading.Lock()
        #: Why Redis cannot be reached, as logged for the operator; None: it can.
        self._failure: str | None = None
        #: When that began, on the monotonic clock.
        self._failed_at = 0.0

    @property
    def is_away(self) -> bool:
        """Whether Redis cannot be reached for longer than a link takes to come back."""
        return self._failure is not None and time.monotonic() >= self._failed_at + _PATIENCE

    @property
    def failure(self) -> str | None:
        """Why Redis cannot be reached; None: it can."""
        return self._failure

    def connect(self) -> Link:
        """A new connection. Raises :class:`RedisError` or :class:`OSError`."""
        arguments = {**self._arguments, **self._credentials()}
        if self._sentinels:
            sentinel = _Sentinel(self._sentinels, sentinel_kwargs=self._settings)
            host, port = sentinel.discover_master(self._service)
            arguments = {**arguments, "host": host, "port": port}
        connection = self._kind(**arguments)
        connection.connect()
        if self._sentinels:
            # What the sentinels say may be old.
            connection.send_command("ROLE")
            if connection.read_response(disable_decoding=True)[0] != b"master":
                connection.disconnect()
                raise ConnectionError(f"{host}:{port} is not the master of {self._service}")
        return Link(connection)

    def _credentials(self) -> dict[str, str]:
        """What the password file has. Raises :class:`OSError`."""
        if self._password_file is None:
            return {}
        try:
            lines = Path(self._password_file).read_text("utf-8").strip().splitlines()
        except UnicodeDecodeError:
            lines = []
        match lines:
            case [password]:
                return {"password": password}
            case [user, password]:
                return {"username": user, "password": password}
            case _:
                text = "has neither a password nor a user and a password in two lines"
                raise OSError(f"{self._password_file} {text}")

    def _take_sentinels(self, url: str) -> str:
        """Note the sentinels of a URL. Returns one of the same form for a single Redis."""
        parts = urlsplit(url)
        credentials, at, hosts = parts.netloc.rpartition("@")
        for host in hosts.split(","):
            found = urlsplit(f"//{host}")
            self._sentinels.append((found.hostname or "", found.port or _SENTINEL_PORT))
        self._service, _, database = parts.path.removeprefix("/").partition("/")
        query = f"?{parts.query}" if parts.query else ""
        return f"redis://{credentials}{at}localhost/{database}{query}"

    def note_failure(self, exc: Exception) -> None:
        """Log that Redis cannot be reached, if that is new."""
        with self._lock:
            is_new, self._failure = self._failure is None, reason_of(exc)
            if is_new:
                self._failed_at = time.monotonic()
        if is_new and self.logs:
            logger.error("cannot reach Redis at %s: %s", self.name, self._failure)

    def note_success(self) -> None:
        """Log that Redis can be reached again, if that is new."""
        if self._failure is None:
            return
        with self._lock:
            is_new, self._failure = self._failure is not None, None
        if is_new and self.logs:
            logger.warning("can reach Redis at %s again", self.name)


def reason_of(exc: Exception) -> str:
    """What failed, in one line."""
    return " ".join(str(exc).split()) or type(exc).__name__


def _without_password_file(url: str) -> tuple[str, str | None]:
    """A URL without ``password_file``, and its value."""
    base, _, query = url.partition("?")
    options = parse_qsl(query, keep_blank_values=True)
    file = next((value for name, value in options if name == "password_file"), None)
    rest = urlencode([option for option in options if option[0] != "password_file"])
    return (f"{base}?{rest}" if rest else base), file


def _shown(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
