"""Round trips to Redis that threads share."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Sequence

from redis.exceptions import RedisError, ResponseError

from ..errors import AppendUnknown, EngineFailed
from .leader_queue import LeaderQueue, Request
from .redis_scripts import Script
from .redis_server import Argument, Command, Link, RedisServer, Reply, reason_of

__all__ = ["Argument", "Command", "Pipeline", "Reply"]

logger = logging.getLogger("syncchat.engine")

#: Seconds that Redis may take to answer while the server stops.
_STOP_SECONDS = 0.5

#: Seconds between two attempts to connect, at least and at most.
_PAUSE = (0.1, 0.5)


class _NotSent(EngineFailed):
    """The commands are not sent, since there is no connection."""


class _Exchange(Request):
    """The commands of one thread, which waits for the replies."""

    __slots__ = ("commands", "failure", "replies")

    def __init__(self, commands: Sequence[Command]) -> None:
        super().__init__()
        self.commands = commands
        self.replies: list[Reply] = []
        self.failure: EngineFailed | None = None


class Pipeline:
    """A connection whose round trips are shared by the threads that wait at the same time."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._exchanges: LeaderQueue[_Exchange] = LeaderQueue(self._exchange_all)
        # Only the thread that leads uses the fields below.
        self._link: Link | None = None
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
                self._is_old = self._is_old or str(reply).startswith("READONLY")
                failure = EngineFailed(f"Redis refuses it: {reason_of(reply)}")
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
                raise EngineFailed(f"Redis refuses it: {reason_of(reply)}") from reply
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
        request = _Exchange(commands)
        self._exchanges.run(request)
        if request.failure is not None:
            raise request.failure
        return request.replies

    def interrupt(self) -> None:
        """Give up a round trip that takes long, and make no new connection."""
        self._interrupted.set()
        began, link = self._began, self._link
        if began is not None and time.monotonic() - began > 0.2 and link is not None:
            link.interrupt()

    def close(self) -> None:
        """Close the connection. No other method may be called meanwhile or later."""
        self._interrupted.set()
        self._disconnect()

    def _exchange_all(self, batch: Sequence[_Exchange]) -> None:
        try:
            self._round_trip(batch)
        except BaseException:
            # Such as KeyboardInterrupt: replies may be left on the connection.
            self._disconnect()
            raise
        finally:
            for request in batch:
                if not request.done:
                    request.done = True
                    request.failure = AppendUnknown("the server is stopping")

    def _round_trip(self, batch: Sequence[_Exchange]) -> None:
        """Send the commands of all requests, and read the replies."""
        sent, answered = False, 0
        try:
            link = self._connected()
            self._began = time.monotonic()
            if self._interrupted.is_set():
                link.let_kernel_wait(_STOP_SECONDS)
            sent = True
            link.send([command for request in batch for command in request.commands])
            self.round_trips += 1
            for request in batch:
                request.replies = [link.reply() for _ in request.commands]
                request.done = True
                answered += 1
        except (RedisError, OSError) as exc:
            self._disconnect()
            self._server.note_failure(exc)
            self._why = reason_of(exc)
            why = f"Redis cannot be reached: {self._why}"
            for request in batch[answered:]:
                request.failure = AppendUnknown(why) if sent else _NotSent(why)
                request.done = True
        else:
            self._server.note_success()
        finally:
            self._began = None

    def _connected(self) -> Link:
        if self._link is not None:
            # A link that is closed already must not leave the outcome unknown.
            if not self._is_old and not self._link.has_input():
                return self._link
            self._disconnect()
        now = time.monotonic()
        if self._interrupted.is_set():
            raise ConnectionError("the server is stopping")
        if now < self._next_try:
            raise ConnectionError(self._why)
        self._next_try = now + random.uniform(*_PAUSE)  # noqa: S311 - no secret
        self._link = link = self._server.connect()
        link.let_kernel_wait()
        self._is_old = False
        self.connections += 1
        return link

    def _disconnect(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()


def _is_unknown_script(error: ResponseError) -> bool:
    return str(error).startswith("NOSCRIPT")
