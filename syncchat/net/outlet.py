"""The writing half of a stream: from any thread, and it never blocks."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable
from enum import Enum, auto

from .address import Address, format_address
from .backlog import Backlog
from .deadline import Deadline
from .io_thread import IOThread
from .tls import TLS

__all__ = ["DONTWAIT", "Outlet", "Written"]


class Written(Enum):
    """What became of a write."""

    #: The kernel has it, or the queue.
    ACCEPTED = auto()
    #: The stream takes no more: it is sealed, broken or closed.
    REFUSED = auto()
    #: The queue is full: the peer is a slow consumer. Nothing was queued.
    OVERFLOW = auto()


# An enumeration's members are looked up slowly, and these once a write.
_ACCEPTED, _REFUSED, _OVERFLOW = Written.ACCEPTED, Written.REFUSED, Written.OVERFLOW

#: The flag that makes one send non-blocking on a blocking socket. Where the
#: platform lacks it (Windows) the socket is non-blocking, and who reads waits.
DONTWAIT: int = getattr(socket, "MSG_DONTWAIT", 0)


class Outlet:
    """A connected socket, as far as writing to it goes, and closing it.

    Straight to the kernel where that takes it, else into a backlog that the
    flusher works off. ``close`` is for the stream's owner, everything else for
    any thread; only ``wait_flushed`` and ``wait_broken`` block.

    ``max_backlog`` is how many bytes may be queued; ``stall_timeout`` how many
    seconds the backlog may stand still, None for ever: past that the flusher's
    thread calls ``on_stall``, outside every lock.
    """

    __slots__ = (
        "_backlog",
        "_broken",
        "_closed",
        "_drained",
        "_io_thread",
        "_lock",
        "_max_backlog",
        "_moved_at",
        "_sealed",
        "_sock",
        "_stall_timeout",
        "_timed",
        "_tls",
        "_watched",
        "address",
        "bytes_out",
        "error",
        "on_stall",
    )

    def __init__(
        self,
        sock: socket.socket,
        io_thread: IOThread,
        *,
        address: Address,
        max_backlog: int,
        stall_timeout: float | None,
    ) -> None:
        self._sock = sock
        self._io_thread = io_thread
        self._max_backlog = max_backlog
        self._stall_timeout = stall_timeout
        #: The peer's host and port; of a trusted proxy its client's, once that is known.
        self.address = address
        #: Why the connection broke, where the operating system said so.
        self.error: OSError | None = None
        #: What a stall calls instead of ``abort``.
        self.on_stall: Callable[[], None] | None = None
        #: Guards the fields below, and every send and close of the socket, so
        #: that a descriptor is never closed under a write. The flusher's lock
        #: may be taken under no stream's lock: word is left after it.
        self._lock = threading.Lock()
        self._backlog: Backlog | None = None
        #: When the backlog began or last moved, on the monotonic clock.
        self._moved_at = 0.0
        self._tls: TLS | None = None
        #: Bytes that the kernel has taken.
        self.bytes_out = 0
        self._sealed = False
        self._broken = False
        self._closed = False
        #: The flusher watches this stream.
        self._watched = False
        #: A timer for ``_check_stall`` is set; there is one at most.
        self._timed = False
        self._drained: threading.Condition | None = None
        sock.settimeout(None if DONTWAIT else 0.0)
        # A peer that is gone already is noticed by the first read.
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __repr__(self) -> str:
        state = "closed" if self._closed else "sealed" if self._sealed else "open"
        return f"<Stream {format_address(self.address)} {state}, {self.backlog_size} bytes queued>"

    @property
    def backlog_size(self) -> int:
        """Bytes that wait for the peer to take them."""
        # Without the lock: another thread may have emptied it in between.
        backlog = self._backlog
        return 0 if backlog is None else backlog.size

    def fileno(self) -> int:
        """The socket's descriptor, -1 once it is closed."""
        return self._sock.fileno()

    # Writing.

    def write(self, data: bytes) -> Written:  # noqa: PLR0911 - the hot path, told in full
        """Send ``data`` or queue it; never blocks.

        Straight to the kernel where nothing is queued. ``data`` that the
        kernel did not take whole is queued whatever its size; what would put
        a backlog that there is already over the limit overflows.
        """
        with self._lock:
            if self._sealed:
                return _REFUSED
            backlog = self._backlog
            if backlog is not None:
                if backlog.size + len(data) > self._max_backlog:
                    return _OVERFLOW
                backlog.append(data)
                return _ACCEPTED
            raw = data
            if self._tls is not None:
                raw = self._encode_locked(data)
                if self._broken:
                    return _REFUSED
            # _send_locked() once more, without the call: this is what a fan-out
            # does for each member and each batch.
            try:
                sent = self._sock.send(raw, DONTWAIT)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError as exc:
                self._break_locked(exc)
                return _REFUSED
            self.bytes_out += sent
            if sent == len(raw):
                return _ACCEPTED
            watch = self._keep_locked(memoryview(raw)[sent:])
        if watch:
            self._have_it_flushed()
        return _ACCEPTED

    def seal(self, last: bytes, *, discard: bool = False) -> bool:
        """Write ``last``, then take no more. False: it took no more already.

        With ``discard``, what is queued goes, but for the write that the
        kernel has begun: a frame is never cut. ``last`` is queued however full
        the backlog is.
        """
        watch = False
        with self._lock:
            if self._sealed:
                return False
            self._sealed = True
            if self._backlog is None:
                watch = self._begin_locked(last)
            else:
                if discard:
                    self._backlog.drop_waiting()
                self._backlog.append(last)
        if watch:
            self._have_it_flushed()
        return True

    def wait_flushed(self, deadline: Deadline) -> bool:
        """Block until nothing is queued. False: the deadline came first.

        Returns True for a stream that broke, since nothing is queued any more.
        """
        with self._lock:
            return self._wait_locked(lambda: self._backlog is None, deadline)

    def wait_broken(self, deadline: Deadline) -> bool:
        """Block until the stream is broken or closed. False: the deadline came first.

        A pause that an abort cuts short.
        """
        with self._lock:
            return self._wait_locked(lambda: self._broken, deadline)

    def shutdown_write(self) -> None:
        """Send FIN behind what was written. Call it with nothing queued."""
        with self._lock:
            self._sealed = True
            if self._tls is not None and self._backlog is None and not self._broken:
                self._send_locked(self._tls.close_notify())
            # The peer may have reset the connection: then it is over anyway.
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_WR)

    def abort(self) -> None:
        """End the connection at once; a blocked ``read`` returns.

        ``shutdown`` wakes a thread that is blocked in ``recv``, ``close`` does
        not; closing is left to the owner.
        """
        with self._lock:
            self._break_locked(None)

    def close(self) -> None:
        """Give the descriptor back. What is queued is lost."""
        with self._lock:
            if self._closed:
                return
            self._break_locked(None)
            self._closed = True
            self.on_stall = None
            # A descriptor that the flusher watches is the flusher's to let go
            # of: closed here, its number could be another socket's by then.
            # The shutdown has woken it.
            if not self._watched:
                self._sock.close()

    # The flusher's side.

    def flush(self) -> bool:
        """Write what the kernel takes. True: nothing is left. Called by the flusher."""
        with self._lock:
            while self._backlog is not None:
                raw = self._backlog.take_begun()
                if raw is None:
                    raw = self._encode_locked(self._backlog.take_waiting())
                sent = self._send_locked(raw)
                if self._broken:
                    break
                if sent:
                    self._moved_at = time.monotonic()
                if sent < len(raw):
                    self._backlog.put_back(memoryview(raw)[sent:])
                    return False
                if not self._backlog:
                    self._forget_backlog_locked()
            return True

    def release(self) -> bool:
        """The flusher watches no longer. False: it must go on."""
        with self._lock:
            if self._backlog is not None:
                return False
            self._watched = False
            if self._closed:
                self._sock.close()
            return True

    def abandon(self) -> None:
        """The flusher is gone for good: without it nothing that is queued gets out."""
        with self._lock:
            self._watched = False
            self._break_locked(None)
            if self._closed:
                self._sock.close()

    # Under the lock.

    def _encode_locked(self, data: bytes) -> bytes:
        """``data`` as it goes over the wire."""
        if self._tls is None:
            return data
        try:
            return self._tls.encrypt(data)
        except ssl.SSLError as exc:
            self._break_locked(exc)
            return b""

    def _send_locked(self, raw: bytes | memoryview) -> int:
        """How many bytes the kernel takes now."""
        try:
            sent = self._sock.send(raw, DONTWAIT)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as exc:
            self._break_locked(exc)
            return 0
        self.bytes_out += sent
        return sent

    def _begin_locked(self, data: bytes) -> bool:
        """Send ``data`` with nothing queued before it. True: the flusher is to go on."""
        raw = data if self._tls is None else self._encode_locked(data)
        sent = self._send_locked(raw)
        return sent < len(raw) and self._keep_locked(memoryview(raw)[sent:])

    def _begin_raw_locked(self, raw: bytes) -> bool:
        """Send what TLS itself says, before whatever waits to be encrypted."""
        if not raw or self._sealed:
            return False
        if self._backlog is not None:
            if self._backlog.size + len(raw) > self._max_backlog:
                # Who asks for new keys without end and reads none.
                self._break_locked(None)
            else:
                self._backlog.append_begun(raw)
            return False
        sent = self._send_locked(raw)
        return sent < len(raw) and self._keep_locked(memoryview(raw)[sent:])

    def _keep_locked(self, rest: memoryview) -> bool:
        """Begin a backlog. True: the flusher is to be told."""
        if self._broken:
            return False
        self._backlog = Backlog()
        self._backlog.append_begun(rest)
        self._moved_at = time.monotonic()
        watch = not self._watched
        self._watched = True
        return watch

    def _forget_backlog_locked(self) -> None:
        self._backlog = None
        if self._drained is not None:
            self._drained.notify_all()

    def _wait_locked(self, condition: Callable[[], bool], deadline: Deadline) -> bool:
        if condition():
            return True
        if self._drained is None:
            self._drained = threading.Condition(self._lock)
        return self._drained.wait_for(condition, deadline.remaining())

    def _break_locked(self, error: OSError | None) -> None:
        """Nothing more goes out, and whoever waits for this stream is woken."""
        if self.error is None:
            self.error = error
        self._sealed = True
        self._broken = True
        self._forget_backlog_locked()
        if not self._closed:
            # ENOTCONN where the peer was faster.
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)

    # After it.

    def _have_it_flushed(self) -> None:
        try:
            watched = self._io_thread.watch(self)
        except (OSError, RuntimeError):
            # A flusher that cannot start is as good as one that has ended.
            watched = False
        if not watched:
            self.abandon()
            return
        if self._stall_timeout is None:
            return
        with self._lock:
            if self._timed:
                return
            self._timed = True
        self._io_thread.call_at(Deadline.after(self._stall_timeout), self._check_stall)

    def _check_stall(self) -> None:
        """On the flusher: has the queue moved within the limit?"""
        with self._lock:
            if self._backlog is None:
                self._timed = False
                return
            limit = self._moved_at + (self._stall_timeout or 0.0)
            stalled = time.monotonic() >= limit
        if stalled:
            (self.on_stall or self.abort)()
        else:
            self._io_thread.call_at(Deadline(limit), self._check_stall)
