"""Connections to a Redis server: the URL, and round trips that threads share."""

from __future__ import annotations

import logging
import random
import socket
import struct
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from redis.backoff import NoBackoff
from redis.connection import ConnectionPool
from redis.exceptions import ReadOnlyError, RedisError, ResponseError
from redis.retry import Retry
from redis.sentinel import Sentinel

from ..errors import AppendUnknown, EngineFailed
from .redis_scripts import Script

__all__ = ["Argument", "Command", "Link", "Pipeline", "RedisServer", "Reply", "socket_of"]

logger = logging.getLogger("syncchat.engine")

#: Seconds that a connection may take to be made, and that Redis may take to answer.
_CONNECT_SECONDS, ANSWER_SECONDS = 1.0, 3.0

#: The same while the server stops.
_STOP_SECONDS = 0.5

#: The port of a sentinel whose URL names none.
_SENTINEL_PORT = 26379

#: Seconds between two attempts to connect, at least and at most.
_PAUSE = (0.1, 0.5)

#: Seconds for which commands wait for a link that broke. After that they fail at once.
_PATIENCE = 2.0

#: A command and its arguments.
Argument = str | bytes | float
Command = Sequence[Argument]

#: What Redis replies, and redis-py's connection, which is not typed throughout.
Reply: TypeAlias = Any
Link: TypeAlias = Any
_Sentinel: Any = Sentinel


class RedisServer:
    """Where Redis is, and whether it is there. From any thread.

    ``url`` is ``redis://HOST:PORT/DB``, ``rediss://...``, ``redis+unix://PATH`` or
    ``redis+sentinel://HOST:PORT,.../SERVICE/DB``, with user, password and redis-py's options.
    """

    def __init__(self, url: str) -> None:
        self._settings: dict[str, Any] = {
            "socket_timeout": ANSWER_SECONDS,
            "socket_connect_timeout": _CONNECT_SECONDS,
            # A retry is ours: only a script that knows its batch can be repeated.
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
            "driver_info": None,
        }
        #: The sentinels, and the service of which they know the master.
        self._sentinels: list[tuple[str, int]] = []
        self._service = ""
        plain = url.replace("redis+unix:", "unix:", 1)
        if url.startswith("redis+sentinel:"):
            plain = self._take_sentinels(url)
        pool = ConnectionPool.from_url(plain, client_name="syncchat", **self._settings)
        self._kind: type[Link] = pool.connection_class
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
        arguments = self._arguments
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
        return connection

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
            is_new, self._failure = self._failure is None, _reason(exc)
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


class _NotSent(EngineFailed):
    """The commands are not sent, since there is no connection."""


class _Request:
    """The commands of one thread, which waits for the replies."""

    __slots__ = ("commands", "done", "failure", "leads", "replies", "wakeup")

    def __init__(self, commands: Sequence[Command]) -> None:
        self.commands = commands
        self.replies: list[Reply] = []
        self.failure: EngineFailed | None = None
        self.done = False
        #: Whether its thread is to lead.
        self.leads = False
        #: The thread sleeps on it until its request is done, or it is to lead.
        self.wakeup = threading.Lock()
        self.wakeup.acquire()


class Pipeline:
    """A connection whose round trips are shared by the threads that wait at the same time.

    One thread leads: it sends the commands of all that wait, reads the replies, and hands the
    lead to one of the threads that have come meanwhile.
    """

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        #: Guards ``_waiting`` and ``_is_led``. A request's ``wakeup`` is only released under it.
        self._lock = threading.Lock()
        self._waiting: list[_Request] = []
        self._is_led = False
        # Only the thread that leads uses the fields below.
        self._connection: Link = None
        self._next_try = 0.0
        #: When the present round trip began, on the monotonic clock; None: there is none.
        self._began: float | None = None
        self._interrupted = threading.Event()
        #: Why there is no connection.
        self._why = "the connection was lost"
        #: Whether the connection is to be replaced.
        self._is_old = False
        #: Round trips so far.
        self.round_trips = 0
        #: Connections so far: after a new one, Redis may have forgotten something.
        self.connections = 0

    def run(
        self,
        script: Script,
        keys: Sequence[str],
        *arguments: Argument,
        then: tuple[str, int, int] | None = None,
    ) -> Reply:
        """Run a script, and return its reply. Raises as :meth:`run_all`.

        ``then`` is a command that waits for so many replicas in the same round trip; if there are
        fewer, this raises :class:`AppendUnknown`.
        """
        return self.run_all(script, [(keys, arguments)], then)[0]

    def run_all(
        self,
        script: Script,
        calls: Sequence[tuple[Sequence[str], Sequence[Argument]]],
        then: tuple[str, int, int] | None = None,
    ) -> list[Reply]:
        """Run a script once for each of ``calls``, which are keys and arguments, and ``then``.

        Raises :class:`EngineFailed` if Redis cannot be reached or refuses one of them, and
        :class:`AppendUnknown` if the reply is missing.
        """
        replies = self.run_each(script, calls, then)
        for reply in replies:
            if isinstance(reply, EngineFailed):
                raise reply
        return replies

    def run_each(
        self,
        script: Script,
        calls: Sequence[tuple[Sequence[str], Sequence[Argument]]],
        then: tuple[str, int, int] | None = None,
    ) -> list[Reply]:
        """As :meth:`run_all`, but for a call that Redis refuses, its exception is returned."""
        last: list[Command] = [] if then is None else [then]
        replies = self.exchange(
            [*(("EVALSHA", script.digest, len(keys), *keys, *rest) for keys, rest in calls), *last]
        )
        unknown = [
            at
            for at, reply in enumerate(replies)
            if isinstance(reply, ResponseError) and _is_unknown_script(reply)
        ]
        if unknown:
            # Redis has not seen the script since it started: nothing has run.
            again = [calls[at] for at in unknown]
            texts = [("EVAL", script.text, len(keys), *keys, *rest) for keys, rest in again]
            found = self.exchange([*texts, *last])
            for at, reply in zip([*unknown, -1][: len(found)], found, strict=True):
                replies[at] = reply
        for at, reply in enumerate(replies):
            if isinstance(reply, ResponseError):
                # After a failover this may be a replica: find the master again.
                self._is_old = self._is_old or isinstance(reply, ReadOnlyError)
                failure = EngineFailed(f"Redis refuses it: {_reason(reply)}")
                failure.__cause__ = reply
                replies[at] = failure
        if then is not None:
            count = replies.pop()
            if isinstance(count, EngineFailed):
                raise count
            if count < then[1]:
                raise AppendUnknown(f"fewer than {then[1]} replicas of Redis have it")
        return replies

    def ask(self, commands: Sequence[Command]) -> list[Reply]:
        """The replies to commands. Raises as :meth:`run_all`."""
        replies = self.exchange(commands)
        for reply in replies:
            if isinstance(reply, ResponseError):
                raise EngineFailed(f"Redis refuses it: {_reason(reply)}") from reply
        return replies

    def exchange(self, commands: Sequence[Command]) -> list[Reply]:
        """Send commands and return the replies, which may be instances of ``ResponseError``.

        Raises as :meth:`run_all`.
        """
        while True:
            try:
                return self._exchange(commands)
            except _NotSent:
                if self._server.is_away or self._interrupted.wait(random.uniform(*_PAUSE)):  # noqa: S311
                    raise

    def _exchange(self, commands: Sequence[Command]) -> list[Reply]:
        request = _Request(commands)
        with self._lock:
            self._waiting.append(request)
            leads, self._is_led = not self._is_led, True
        if not leads:
            self._sleep(request)
        if not request.done:
            self._lead(request)
        if request.failure is not None:
            raise request.failure
        return request.replies

    def interrupt(self) -> None:
        """Give up a round trip that takes long, and make no new connection."""
        self._interrupted.set()
        began, connection = self._began, self._connection
        if began is not None and time.monotonic() - began > 0.2 and connection is not None:
            sock = socket_of(connection)
            if sock is not None:
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    return

    def close(self) -> None:
        """Close the connection. No other method may be called meanwhile or later."""
        self._interrupted.set()
        if self._connection is not None:
            self._connection.disconnect()

    def _sleep(self, request: _Request) -> None:
        """Wait until ``request`` is done, or its thread is to lead."""
        try:
            request.wakeup.acquire()
        except BaseException:
            # An exception such as KeyboardInterrupt: no thread may hand the lead to this one.
            with self._lock:
                if request in self._waiting:
                    self._waiting.remove(request)
            if request.leads:
                self._pass_on()
            raise

    def _lead(self, own: _Request) -> None:
        with self._lock:
            batch, self._waiting = self._waiting, []
        try:
            self._round_trip(batch)
        except BaseException:
            # Such as KeyboardInterrupt: replies may be left on the connection.
            self._disconnect()
            raise
        finally:
            # First the next leader: its round trip need not wait for these threads.
            self._pass_on()
            for request in batch:
                if not request.done:
                    request.done = True
                    request.failure = AppendUnknown("the server is stopping")
                if request is not own:
                    request.wakeup.release()

    def _pass_on(self) -> None:
        with self._lock:
            self._is_led = bool(self._waiting)
            if self._is_led:
                self._waiting[0].leads = True
                self._waiting[0].wakeup.release()

    def _round_trip(self, batch: Sequence[_Request]) -> None:
        """Send the commands of all requests, and read the replies."""
        sent, answered = False, 0
        try:
            connection = self._connected()
            self._began = time.monotonic()
            packed = connection.pack_commands(
                [command for request in batch for command in request.commands]
            )
            sent = True
            # The connection's own limit costs no system call.
            limit = {"timeout": _STOP_SECONDS} if self._interrupted.is_set() else {}
            connection.send_packed_command(packed, check_health=False)
            self.round_trips += 1
            for request in batch:
                for _ in request.commands:
                    try:
                        reply = connection.read_response(disable_decoding=True, **limit)
                    except ResponseError as exc:
                        reply = exc
                    request.replies.append(reply)
                request.done = True
                answered += 1
        except (RedisError, OSError) as exc:
            self._disconnect()
            self._server.note_failure(exc)
            self._why = _reason(exc)
            why = f"Redis cannot be reached: {self._why}"
            for request in batch[answered:]:
                request.failure = AppendUnknown(why) if sent else _NotSent(why)
                request.done = True
        else:
            self._server.note_success()
        finally:
            self._began = None

    def _connected(self) -> Link:
        if self._connection is not None:
            try:
                # A link that is closed already must not leave the outcome unknown.
                if not self._is_old and not self._connection.can_read(0):
                    return self._connection
            except (RedisError, OSError):
                pass
            self._disconnect()
        if self._connection is None:
            now = time.monotonic()
            if self._interrupted.is_set():
                raise ConnectionError("the server is stopping")
            if now < self._next_try:
                raise ConnectionError(self._why)
            self._next_try = now + random.uniform(*_PAUSE)  # noqa: S311 - no secret
            self._connection = self._server.connect()
            _let_kernel_wait(self._connection)
            self._is_old = False
            self.connections += 1
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()


def socket_of(connection: Link) -> socket.socket | None:
    """The socket of a connection, to wait for it or to wake who waits; None: it is closed."""
    found: socket.socket | None = connection._get_socket()  # noqa: SLF001 - it has no other way
    return found


def _let_kernel_wait(connection: Link) -> None:
    """Have the kernel apply the time limits: Python's own cost a system call for each read."""
    sock = socket_of(connection)
    # Not an SSLSocket, which would not understand them.
    if sys.platform == "linux" and type(sock) is socket.socket:
        limit = struct.pack("ll", int(ANSWER_SECONDS), 0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        sock.settimeout(None)


def _is_unknown_script(error: ResponseError) -> bool:
    return type(error).__name__ == "NoScriptError" or str(error).startswith("NOSCRIPT")


def _reason(exc: Exception) -> str:
    """What failed, in one line."""
    return " ".join(str(exc).split()) or type(exc).__name__


def _shown(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
