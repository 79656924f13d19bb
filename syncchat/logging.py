"""A handler of :mod:`logging` that sends the records of a program to a room."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import ssl
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator

from .chat.events import Error, Say
from .client import Client
from .client.reconnect import delays
from .errors import CannotConnect, ConnectionClosed, NotConnected, OutboxFull
from .net import Deadline

__all__ = ["RoomHandler"]

#: Seconds between two attempts after the server has turned the handler away for good.
_AGAIN = 30.0

#: Seconds between two looks at whether a full outbox has space.
_LOOK = 0.5

#: Lines of a message, at most; a server of this package takes a few more.
_MOST_LINES = 1000

#: Characters of a message, at most. In JSON they take fewer bytes than a server accepts by default.
_MOST_CHARS = 8000


class RoomHandler(logging.Handler):
    """Sends log records to a room, and never makes the program wait for it::

        logging.getLogger("app").addHandler(RoomHandler("ws://127.0.0.1:2000/ops", nick="app"))

    A record is formatted at once, and sent by the thread ``syncchat-log URL``. Server and
    program may start in any order, and the server may restart: each record is sent until the
    server has acknowledged it, and is stored once. A long record, such as a deep traceback,
    is sent in several messages, each of whole lines.

    - ``url``, ``nick``, ``token``, ``ssl_context``: as in :class:`~syncchat.Client`.
    - ``level``: the lowest level that is sent.
    - ``capacity``: how many records may wait. Further records are dropped; when there is
      space again, the room is told how many, by an action. ``dropped`` counts all of them.
    - ``timeout``: seconds that :meth:`close`, and so the end of the program, may wait for the
      server to acknowledge the last records. If the server is away, it does not wait.

    Records of the loggers ``syncchat`` and ``syncchat...`` are not sent, since sending may log.
    After a fork, the child has a connection of its own; the records that wait then are sent by
    the parent.

    Raises as :class:`~syncchat.Client`. Any thread may call every method.
    """

    def __init__(
        self,
        url: str,
        *,
        nick: str | None = None,
        token: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        level: int | str = logging.NOTSET,
        capacity: int = 1000,
        timeout: float = 2.0,
    ) -> None:
        self._url, self._nick, self._token, self._ssl = url, nick, token, ssl_context
        self._capacity, self._timeout = capacity, timeout
        #: The number of records that were dropped since the start.
        self.dropped = 0
        self._begin()
        super().__init__(level)

    def _begin(self) -> None:
        """Start anew, without a thread: at first, and in the child of a fork."""
        self._client = Client(
            self._url,
            nick=self._nick,
            token=self._token,
            ssl_context=self._ssl,
            on_event=self._take_events,
        )
        self._process = os.getpid()
        self._thread: threading.Thread | None = None
        #: Guards the fields below, and ``dropped``. No other lock is taken under it.
        self._lock = threading.Lock()
        #: Notified when a text is queued, when none is left, and at the end.
        self._changed = threading.Condition(self._lock)
        #: Texts that the client has not taken, each with the number of its records: a text that
        #: tells of missing ones has none.
        self._waiting: deque[tuple[str, int]] = deque()
        #: Dropped records of which the room is not told yet.
        self._untold = 0
        #: Whether the thread has given the client all that it took.
        self._idle = True
        self._closing = False
        #: Whether :meth:`close` has closed the client in order.
        self._client_is_closed = False
        #: Whether the last attempt to connect has failed. Written by the thread.
        self._is_away = False

    def emit(self, record: logging.LogRecord) -> None:
        """Format the record and queue it. Never waits for the network. Called by the logger."""
        if str(record.name).partition(".")[0] == "syncchat":
            return
        try:
            # A lone surrogate, as from a file name, is no text for the network.
            text = self.format(record).encode("utf-8", "backslashreplace").decode()
            if self._process != os.getpid():
                self._begin()
            with self._lock:
                if self._closing or len(self._waiting) >= self._capacity:
                    self.dropped += 1
                    self._untold += 1
                    return
                if self._untold:
                    self._waiting.append((self._gap_locked(), 0))
                self._waiting.append((text, 1))
                self._changed.notify_all()
                if self._thread is None:
                    name = f"syncchat-log {self._url.partition('?')[0]}"
                    thread = threading.Thread(target=self._run, name=name, daemon=True)
                    thread.start()
                    self._thread = thread
        except Exception:  # noqa: BLE001 - as every handler does: reported, and not raised
            self.handleError(record)

    def drain(self, timeout: float | None = None) -> bool:
        """Wait until the server has all records, for ``timeout`` seconds (None: no limit).

        Returns whether it has.
        """
        if self._process != os.getpid():
            return True
        deadline = Deadline.after(timeout)
        with self._lock:
            if not self._changed.wait_for(self._is_empty_locked, deadline.remaining()):
                return False
        if self._client.unacknowledged:
            try:
                self._client.flush(deadline.remaining())
            except (TimeoutError, ConnectionError):
                return False
        return True

    def close(self) -> None:
        """Send what waits, unless the server is away, and end the thread.

        Takes ``timeout`` seconds at most. Records that the server has not got by then count as
        ``dropped`` when the thread has ended, which may be a moment later.
        """
        if self._process == os.getpid():
            self._close(Deadline.after(self._timeout))
        super().close()

    def _close(self, deadline: Deadline) -> None:
        if not self._is_away and self._client.retry_in is None:
            self.drain(deadline.remaining())
        with self._lock:
            self._closing = True
            thread = self._thread
            self.dropped += sum(count for _, count in self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
        if thread is None:
            return
        self._client.close(deadline.remaining())
        with self._lock:
            self._client_is_closed = True
            self._changed.notify_all()
        # Its attempt to connect may have begun after that.
        while thread.is_alive() and not deadline.expired:
            thread.join(_LOOK / 10)
            self._client.close(0)

    def _is_empty_locked(self) -> bool:
        assert self._lock.locked()
        return self._idle and not self._waiting and not self._untold

    def _gap_locked(self) -> str:
        """The text that stands in the place of dropped records."""
        assert self._lock.locked()
        count, self._untold = self._untold, 0
        return f"has dropped {count} log records here: there were too many"

    # The thread.

    def _run(self) -> None:
        while (found := self._next()) is not None:
            text, count = found
            parts = deque(_parts(text))
            while parts and not self._closing:
                if self._deliver(parts[0], self._client.say if count else self._client.act):
                    parts.popleft()
                elif not self._closing:
                    parts.extendleft(reversed(_halves(parts.popleft())))
            if parts:
                with self._lock:
                    self.dropped += count
        with self._lock:
            self._changed.wait_for(lambda: self._client_is_closed)
        # Here, because only now the client gets no further record.
        undelivered = self._client.close(0)
        with self._lock:
            self.dropped += sum(isinstance(each, Say) for each in undelivered)

    def _next(self) -> tuple[str, int] | None:
        """Wait for the next text, and the number of its records. None: the end."""
        with self._lock:
            self._idle = True
            self._changed.notify_all()
            while not self._closing:
                if self._waiting or self._untold:
                    self._idle = False
                    return self._waiting.popleft() if self._waiting else (self._gap_locked(), 0)
                self._changed.wait()
            return None

    def _deliver(self, text: str, send: Callable[[str, float], object]) -> bool:
        """Give ``text`` to the client, however long that takes.

        False: it is too long, or the handler is closed.
        """
        pauses = delays(random.random)
        while not self._closing:
            try:
                if not self._client.opened or self._client.close_code is not None:
                    self._client.connect()
                self._is_away = False
                send(text, _LOOK)
            except OutboxFull:
                continue
            except (CannotConnect, NotConnected, TimeoutError):
                self._is_away = True
                self._pause(next(pauses))
            except (OSError, RuntimeError) as exc:
                self._is_away = True
                self._report(exc)
                self._pause(_AGAIN)
            except ValueError:
                return False
            else:
                return True
        return False

    def _pause(self, seconds: float) -> None:
        """Wait, unless the handler is closed."""
        with self._lock:
            self._changed.wait_for(lambda: self._closing, seconds)

    def _report(self, exc: Exception) -> None:
        """Say on standard error what keeps the records from the room, as handleError() does."""
        if not self._closing and logging.raiseExceptions and sys.stderr is not None:
            with contextlib.suppress(OSError):
                sys.stderr.write(f"RoomHandler, {self._url.partition('?')[0]}: {exc}\n")

    def _take_events(self) -> None:
        """Drop what the client receives; a refused record counts as dropped."""
        with contextlib.suppress(TimeoutError, ConnectionClosed):
            while True:
                event = self._client.receive(timeout=0)
                if isinstance(event, Error) and event.nonce is not None:
                    with self._lock:
                        self.dropped += 1


def _parts(text: str) -> Iterator[str]:
    """``text`` in pieces that a server accepts, of whole lines as far as possible."""
    lines: list[str] = []
    size = 0
    for line in text.split("\n"):
        for at in range(0, max(1, len(line)), _MOST_CHARS):
            piece = line[at : at + _MOST_CHARS]
            if lines and (size + len(piece) > _MOST_CHARS or len(lines) == _MOST_LINES):
                yield "\n".join(lines)
                lines, size = [], 0
            lines.append(piece)
            size += len(piece) + 1
    yield "\n".join(lines)


def _halves(text: str) -> list[str]:
    """Two parts of a text that is too long for its server, cut between lines if possible."""
    middle = len(text) // 2
    cut = text.rfind("\n", 0, middle) + 1 or text.find("\n", middle) + 1 or middle
    return [text[:cut].removesuffix("\n"), text[cut:]] if middle else []
