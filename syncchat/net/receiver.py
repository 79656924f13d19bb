"""Receiving: reads of one connection, and one thread that reads for all that wait.

A thread that sleeps in ``recv`` must wake up for each message of its client, and a wake-up
costs more than all the work that follows. So threads that wait for simple messages sleep
on a lock. One of them, the leader, waits for the sockets of all of them, and takes the
messages of every client whose socket has input. A thread wakes up only when its client
needs it. If that is the leader's client, another thread becomes the leader. (Schmidt,
O'Ryan, Kircher, Pyarali, Buschmann: "Leader/Followers", PLoP 2000.)
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from math import inf

from .io_thread import Deadline
from .limits import Limits, TokenBucket
from .protocol import Close, Control, Message, Protocol, Violation
from .stream import Stream

__all__ = ["Followers", "Later", "Receiver", "Take", "followers"]

logger = logging.getLogger("syncchat.net")

#: For a read that does not wait.
_AT_ONCE = Deadline.after(0)

#: Functions that the leader calls after it has read from all sockets that have input, each
#: once. So the messages of several clients become one batch.
Later = set[Callable[[], None]]

#: Handles the first of the messages that have arrived, as many as it can without blocking,
#: and returns their number.
Take = Callable[[Sequence[Message], Later], int]

#: Reads from one socket, on the leader's thread; must not block. False: the thread that
#: waits for the socket must wake up.
_Read = Callable[[Later], bool]


class Receiver:
    """The receiving half of a connection: what arrives becomes messages, within the rate limit.

    ``handle`` is called with every other event, and with None at the end of the stream. Of
    several messages and the peer's Close, it gets the Close after the messages are
    received. The caller of a method holds ``lock``, except for ``take_turn`` and ``follow``.
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
        self._bucket = TokenBucket(limits.rate, limits.burst) if limits.rate else None
        #: The rate limit allows no further frame before this moment, 0.0 without a
        #: pause; and when the last pause ended; both on the monotonic clock.
        self._paused_until = 0.0
        self.resumed_at = 0.0
        #: The peer's Close or violation, handled after all earlier messages are handed out.
        self.deferred: Close | Violation | None = None
        #: Frames that arrived in one packet with the handshake are not parsed yet.
        self._early = early

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

    def follow(self, followers: Followers, take: Take) -> None:
        """Have the leader read, until there is something that this thread must handle."""
        with self.lock:
            # All of this is for the thread itself.
            waits = self.messages or self.deferred or self._paused_until or self._early
            if waits or self._protocol.ended:
                return
            # Under the lock, so that close() cannot close the socket in between.
            descriptor = self._stream.writer.fileno()
            follower = followers.register(descriptor, partial(self._read_for, take))
        followers.wait(follower)

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

    def _read_for(self, take: Take, later: Later) -> bool:
        """Read what has arrived. On the leader's thread. False: the waiting thread is needed."""
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


class _Follower:
    """A thread that waits for one socket."""

    __slots__ = ("descriptor", "failure", "needed", "read", "wakeup")

    def __init__(self, descriptor: int, read: _Read) -> None:
        self.descriptor = descriptor
        self.read = read
        #: Whether the thread must serve its client itself.
        self.needed = False
        #: What ``read`` has raised; it is raised again on the thread.
        self.failure: BaseException | None = None
        #: The thread sleeps on it. It is released once: when the thread is needed, or has
        #: become the leader.
        self.wakeup = threading.Lock()
        self.wakeup.acquire()


class Followers:
    """The threads that wait for input, one of which is the leader. Any thread may call it."""

    def __init__(self) -> None:
        #: Guards the fields below. No other lock is taken under it; a follower's lock is
        #: only released.
        self._lock = threading.Lock()
        self._poll = select.epoll()
        #: Wakes the leader, which waits in the poll.
        self._alarm = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll.register(self._alarm, select.EPOLLIN)
        #: The waiting threads, by the descriptors of their sockets.
        self._waiting: dict[int, _Follower] = {}
        self._leader: _Follower | None = None
        self._closed = False

    def register(self, descriptor: int, read: _Read) -> _Follower:
        """Have ``read`` called whenever the socket has input, or is at its end.

        It is called on the leader's thread, until it returns False or raises an exception.
        The calling thread must call :meth:`wait` next. Call :meth:`dismiss` before the
        socket is closed.
        """
        follower = _Follower(descriptor, read)
        with self._lock:
            if self._closed:
                # The thread reads for itself.
                follower.needed = True
                follower.wakeup.release()
                return follower
            self._poll.register(descriptor, select.EPOLLIN)
            self._waiting[descriptor] = follower
            if self._leader is None:
                self._leader = follower
                follower.wakeup.release()
        return follower

    def wait(self, follower: _Follower) -> None:
        """Block until the thread is needed; raise what ``read`` has raised."""
        try:
            follower.wakeup.acquire()
            # A thread that is dismissed as it becomes the leader has to resign, too.
            if self._leader is follower:
                self._lead(follower)
        finally:
            self._resign(follower)
        if follower.failure is not None:
            raise follower.failure

    def dismiss(self, descriptor: int) -> None:
        """End the wait for a socket, if a thread waits for it. From any thread."""
        with self._lock:
            follower = self._waiting.get(descriptor)
            if follower is not None:
                self._dismiss_locked(follower)

    def close(self) -> None:
        """End all waits: from now on, each thread reads for itself."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for follower in tuple(self._waiting.values()):
                self._dismiss_locked(follower)
            if self._leader is None:
                self._free_locked()

    def _lead(self, me: _Follower) -> None:
        """Read for all waiting threads until this thread is needed."""
        while not me.needed:
            later: Later = set()
            needed: list[_Follower] = []
            try:
                for descriptor, _ in self._poll.poll():
                    follower = self._waiting.get(descriptor)
                    if follower is not None:
                        if self._needs_thread(follower, later):
                            needed.append(follower)
                    elif descriptor == self._alarm:
                        os.eventfd_read(descriptor)
                for call in later:
                    try:
                        call()
                    except Exception:
                        # The failure belongs to other clients. It must not end the
                        # connection of the leader's client.
                        logger.exception("messages that were read together failed")
            finally:
                # After the calls: what a client has said before is done when its thread
                # wakes up.
                for follower in needed:
                    if follower is not me:
                        follower.wakeup.release()

    def _needs_thread(self, follower: _Follower, later: Later) -> bool:
        """Read from one socket. True: its thread must wake up."""
        try:
            if follower.read(later):
                return False
        except BaseException as exc:  # noqa: BLE001 - raised in wait()
            follower.failure = exc
        with self._lock:
            # After dismiss(), the descriptor may be another connection's.
            if self._waiting.get(follower.descriptor) is not follower:
                return False
            self._remove_locked(follower)
        follower.needed = True
        return True

    def _dismiss_locked(self, follower: _Follower) -> None:
        self._remove_locked(follower)
        follower.needed = True
        if follower is self._leader:
            os.eventfd_write(self._alarm, 1)
        else:
            follower.wakeup.release()

    def _remove_locked(self, follower: _Follower) -> None:
        assert self._lock.locked()
        del self._waiting[follower.descriptor]
        # The socket may be closed already if its thread was interrupted.
        with contextlib.suppress(OSError):
            self._poll.unregister(follower.descriptor)

    def _resign(self, follower: _Follower) -> None:
        """End a wait. If it was the leader's, make another waiting thread the leader."""
        with self._lock:
            if self._waiting.get(follower.descriptor) is follower:
                # An exception has interrupted the thread.
                self._remove_locked(follower)
            if self._leader is not follower:
                return
            self._leader = next(iter(self._waiting.values()), None)
            if self._leader is not None:
                self._leader.wakeup.release()
            elif self._closed:
                self._free_locked()

    def _free_locked(self) -> None:
        assert self._lock.locked()
        self._poll.close()
        os.close(self._alarm)


def followers() -> Followers | None:
    """A new object; None if the system cannot wait for many sockets at the cost of one."""
    return Followers() if hasattr(select, "epoll") and hasattr(os, "eventfd") else None
