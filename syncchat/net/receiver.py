"""Receiving: reads of one connection, and one thread that reads for all that wait.

A thread that sleeps in ``recv`` must wake up for each message of its client, and a wake-up
costs more than all the work that follows. So one thread, the reader, waits for the sockets of
all connections that expect simple messages, and takes these messages. The thread of a
connection sleeps on a lock meanwhile, or is not started yet. It wakes up, or starts, when its
client needs it. (The pattern is half-sync/half-async: Schmidt, Cranor, PLoP 1995.)
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import threading
import time
import typing
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf

from .io_thread import Deadline
from .limits import Limits, TokenBucket
from .protocol import Close, Control, Message, Protocol, Violation
from .stream import Stream

__all__ = [
    "Conversation",
    "HandlerConversation",
    "Later",
    "Reader",
    "Receiver",
    "Take",
    "shared_reader",
]

logger = logging.getLogger("syncchat.net")

#: For a read that does not wait.
_AT_ONCE = Deadline.after(0)

#: Functions that the reader calls after it has read from all sockets that have input, each
#: once. So the messages of several clients become one batch.
Later = set[Callable[[], None]]

#: Handles the first of the messages that have arrived, as many as it can without blocking,
#: and returns their number.
Take = Callable[[Sequence[Message], Later], int]

#: Reads from one socket, on the reader's thread; must not block. False: the connection's
#: thread is needed.
Read = Callable[[Later], bool]


#: The connection, as its program sees it.
Client = typing.TypeVar("Client")


class Conversation(typing.Protocol):
    """What a program does with one client, if most of it needs no thread.

    Its methods are called on the acceptor, the reader, or the connection's thread, one at
    a time. Only ``run`` may block.
    """

    def blocks(self) -> bool:
        """Whether the beginning may block. Called before the handshake is answered."""

    def begin(self) -> bool:
        """Begin without a thread. False: ``run`` must begin."""

    def take(self, messages: Sequence[Message], later: Later, /) -> int:
        """Handle messages without the thread: see :data:`Take`. Only after ``begin``."""

    def run(self) -> None:
        """Go on, until the conversation or the connection ends. On the connection's thread.

        May raise :class:`ConnectionClosed`.
        """

    def end(self) -> None:
        """Release everything. Called last, in any case."""


class HandlerConversation(typing.Generic[Client]):
    """The conversation of a handler, which needs the thread at once."""

    def __init__(self, handler: Callable[[Client], None], websocket: Client) -> None:
        self.run = partial(handler, websocket)

    def blocks(self) -> bool:
        """Return True."""
        return True

    def begin(self) -> bool:
        """Return False."""
        return False

    def take(self, _messages: Sequence[Message], _later: Later, /) -> int:
        """Take no message."""
        return 0

    def end(self) -> None:
        """Do nothing."""


class Receiver:
    """The receiving half of a connection: what arrives becomes messages, within the rate limit.

    ``handle`` is called with every other event, and with None at the end of the stream. Of
    several messages and the peer's Close, it gets the Close after the messages are
    received. The caller of ``advance`` holds ``lock``.
    """

    def __init__(
        self,
        stream: Stream,
        protocol: Protocol,
        limits: Limits,
        handle: Callable[[Control | None], None],
        *,
        early: bool,
    ) -> None:
        self._stream = stream
        self._protocol = protocol
        self._handle = handle
        #: Held by the one thread that reads; guards the receiving half of the protocol
        #: and the fields below. Reentrant: the reading thread runs the callbacks of a
        #: ping's future, and a callback may call close().
        self.lock = threading.RLock()
        #: Messages that have arrived, but are not handed out.
        self.messages: deque[Message] = deque()
        #: The number of complete messages that have arrived.
        self.count = 0
        self._bucket: TokenBucket | None
        self.limit_rate(limits.rate, limits.burst)
        #: The rate limit allows no further frame before this moment, 0.0 without a
        #: pause; and when the last pause ended; both on the monotonic clock.
        self._paused_until = 0.0
        self.resumed_at = 0.0
        #: The peer's Close or violation, handled after all earlier messages are handed out.
        self.deferred: Close | Violation | None = None
        #: Frames that arrived in one packet with the handshake are not parsed yet.
        self._early = early

    def limit_rate(self, rate: float, burst: int) -> None:
        """Hold the peer to another rate than that of the limits. Before anything is read."""
        self._bucket = TokenBucket(rate, burst) if rate else None

    def take_turn(self, timeout: float | None) -> None:
        """Return with the lock held and a message ready; raise with the lock released."""
        deadline = None
        if timeout is None:
            self.lock.acquire()
        else:
            deadline = Deadline.after(timeout)
            if not self.lock.acquire(timeout=deadline.for_lock()):
                raise TimeoutError("no message arrived in time")
        try:
            while not self.messages:
                if self._protocol.ended:
                    raise self._protocol.closed()
                self.advance(deadline)
                news = self.messages or self._protocol.ended
                if deadline is not None and deadline.expired and not news:
                    # The peer keeps sending, but does not complete a message.
                    raise TimeoutError("no message arrived in time")
        except BaseException:
            self.lock.release()
            raise

    def follow(self, reader: Reader, take: Take) -> None:
        """Have the reader read, until there is something that this thread must handle."""
        asleep = threading.Lock()
        asleep.acquire()
        failure: list[BaseException] = []

        def read(later: Later) -> bool:
            try:
                return self.read_for(take, later)
            except BaseException as exc:  # noqa: BLE001 - raised on the sleeping thread
                failure.append(exc)
                return False

        with self.lock:
            # All of this is for the thread itself.
            waits = self.messages or self.deferred or self._paused_until or self._early
            if waits or self._protocol.ended:
                return
            # Under the lock, so that close() cannot close the socket in between.
            descriptor = self._stream.writer.fileno()
            waiting = reader.register(descriptor, read, asleep.release, armed=False)
        try:
            # Not under the lock, which the reader needs.
            reader.arm(waiting)
            asleep.acquire()
        except BaseException:
            reader.dismiss(descriptor)
            raise
        if failure:
            raise failure[0]

    def advance(self, deadline: Deadline | None) -> None:
        """Do the next step: end the connection, pause, or read. Raises :class:`TimeoutError`."""
        if self.deferred is not None:
            deferred, self.deferred = self.deferred, None
            self._handle(deferred)
            return
        if self._paused_until:
            self._pause(deadline)
        elif not self._early:
            data = self._stream.read(deadline)
            if not data:
                self._handle(None)
                return
            self._protocol.receive(data)
        self._early = False
        # Parse until no bytes are left or the rate limit is reached.
        while (event := self._protocol.next_event()) is not None:
            match event:
                case str() | bytes():
                    self.count += 1
                    self.messages.append(event)
                case Close() | Violation():
                    if self.messages:
                        self.deferred = event
                    else:
                        self._handle(event)
                    return
                case _:
                    self._handle(event)
                    if self._protocol.ended:
                        # A callback of a ping's future has closed the connection.
                        return
            if self._bucket is not None and (moment := self._bucket.charge()) > time.monotonic():
                self._paused_until = moment
                return

    def _pause(self, deadline: Deadline | None) -> None:
        """Wait as long as the rate limit demands. Raises :class:`TimeoutError`."""
        end = Deadline(min(self._paused_until, deadline.at if deadline else inf))
        if not self._stream.writer.wait_broken(end) and end.at < self._paused_until:
            raise TimeoutError("the rate limit allows no message in time")
        self._paused_until = 0.0
        self.resumed_at = time.monotonic()

    def read_for(self, take: Take, later: Later) -> bool:
        """Read what has arrived, on the reader's thread.

        False: the connection's thread is needed, or the connection has ended.
        """
        if not self.lock.acquire(blocking=False):
            # Another thread reads or closes.
            return False
        try:
            with contextlib.suppress(TimeoutError):
                self.advance(_AT_ONCE)
            # If the connection ends, the waiting thread handles what came before, too.
            if self.messages and not self._protocol.ended and self.deferred is None:
                for _ in range(take(tuple(self.messages), later)):
                    self.messages.popleft()
            return not (
                self.messages or self.deferred or self._paused_until or self._protocol.ended
            )
        finally:
            self.lock.release()

    @property
    def is_over(self) -> bool:
        """Whether the connection has ended, and all messages are handed out."""
        return self._protocol.ended and not self.messages


@dataclass(slots=True)
class Waiting:
    """A connection that waits for input."""

    descriptor: int
    read: Read
    #: Called once, after ``read`` has returned False or another thread has ended the wait. It
    #: is not called during a call of ``read``.
    wake: Callable[[], None]
    #: Another thread has ended the wait during a call of ``read``.
    dismissed: bool = False


class Reader:
    """The thread that reads for all connections that wait for input. Any thread may call it."""

    def __init__(self, name: str) -> None:
        #: Guards the fields below. No other lock is taken under it.
        self._lock = threading.Lock()
        self._poll = select.epoll()
        #: Wakes the thread, which waits in the poll.
        self._alarm = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll.register(self._alarm, select.EPOLLIN)
        #: By the descriptors of the sockets.
        self._waiting: dict[int, Waiting] = {}
        #: The one whose ``read`` is being called.
        self._reading: Waiting | None = None
        self._closed = False
        #: The descriptors of this object are closed.
        self._freed = False
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread. Raises :class:`RuntimeError` if the system has no threads left."""
        self.thread.start()

    def register(
        self, descriptor: int, read: Read, wake: Callable[[], None], *, armed: bool = True
    ) -> Waiting:
        """Have ``read`` called whenever the socket has input, or is at its end.

        It is called on the reader's thread, until it returns False; then ``wake`` is called
        once. Not ``armed``: only after :meth:`arm`. Call :meth:`dismiss` before the socket
        is closed.
        """
        waiting = Waiting(descriptor, read, wake)
        with self._lock:
            closed = self._closed
            if not closed:
                # Until the second step, the reader ignores events of the socket.
                self._poll.register(descriptor, select.EPOLLIN if armed else 0)
                self._waiting[descriptor] = waiting
        if closed:
            wake()
        return waiting

    def arm(self, waiting: Waiting) -> None:
        """Begin to call ``read``, unless the wait has ended."""
        with self._lock:
            if self._waiting.get(waiting.descriptor) is waiting:
                self._poll.modify(waiting.descriptor, select.EPOLLIN)

    def dismiss(self, descriptor: int) -> None:
        """End the wait for a socket, if there is one: its ``wake`` is called. From any thread."""
        with self._lock:
            waiting = self._waiting.get(descriptor)
        if waiting is not None and self._remove(waiting):
            waiting.wake()

    def close(self) -> None:
        """End all waits, and the thread after its present work."""
        with self._lock:
            self._closed = True
            waiting = tuple(self._waiting.values())
            if not self._freed:
                os.eventfd_write(self._alarm, 1)
        for each in waiting:
            if self._remove(each):
                each.wake()

    def join(self, timeout: float) -> bool:
        """Wait for the end of the thread after :meth:`close`. False: it has not ended in time.

        Returns False on the thread itself.
        """
        if self.thread is threading.current_thread():
            return False
        if self.thread.ident is not None:
            self.thread.join(timeout)
        if self.thread.is_alive():
            return False
        with self._lock:
            if not self._freed:
                self._freed = True
                self._poll.close()
                os.close(self._alarm)
        return True

    def _run(self) -> None:
        while not self._closed:
            later: Later = set()
            needed: list[Waiting] = []
            for descriptor, _ in self._poll.poll():
                # After dismiss(), the descriptor may be another connection's: it is
                # read once too often, which does no harm.
                with self._lock:
                    waiting = self._reading = self._waiting.get(descriptor)
                if waiting is None:
                    continue
                goes_on = waiting.read(later)
                with self._lock:
                    self._reading = None
                if waiting.dismissed:
                    _wake(waiting)
                elif not goes_on:
                    needed.append(waiting)
                if needed and not later:
                    # At once: there may be thousands to read from.
                    self._end_waits(needed)
            for call in later:
                try:
                    call()
                except Exception:
                    # The failure belongs to other clients, and must not end the reader.
                    logger.exception("messages that were read together failed")
            # After the calls: what a client has said before is done when its thread wakes up.
            self._end_waits(needed)

    def _end_waits(self, needed: list[Waiting]) -> None:
        for waiting in needed:
            if self._remove(waiting):
                _wake(waiting)
        needed.clear()

    def _remove(self, waiting: Waiting) -> bool:
        """End a wait. False: it has ended, or is about to end on the reader's thread."""
        with self._lock:
            if self._waiting.get(waiting.descriptor) is not waiting:
                return False
            del self._waiting[waiting.descriptor]
            # The socket may be closed already if its thread was interrupted.
            with contextlib.suppress(OSError):
                self._poll.unregister(waiting.descriptor)
            waiting.dismissed = waiting is self._reading
            return not waiting.dismissed


def _wake(waiting: Waiting) -> None:
    try:
        waiting.wake()
    except Exception:
        # The reader works for all clients, and must continue.
        logger.exception("a connection could not go on")


def shared_reader(name: str) -> Reader | None:
    """A new reader; None if the system cannot wait for many sockets at the cost of one."""
    return Reader(name) if hasattr(select, "epoll") and hasattr(os, "eventfd") else None
