"""The writing side of a stream: usable from any thread, and writes never block."""

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
    """The result of a write."""

    #: The data is sent or queued.
    ACCEPTED = auto()
    #: The stream accepts no more data: it is sealed, broken or closed.
    REFUSED = auto()
    #: The backlog is full: the peer is a slow consumer. Nothing was queued.
    OVERFLOW = auto()


# Looking up a member of an enumeration is slow, and each write uses them.
_ACCEPTED, _REFUSED, _OVERFLOW = Written.ACCEPTED, Written.REFUSED, Written.OVERFLOW

#: The flag that makes a single call non-blocking on a blocking socket. On platforms
#: without it (Windows) the socket is non-blocking, and a reader waits with a selector.
DONTWAIT: int = getattr(socket, "MSG_DONTWAIT", 0)


class Outlet:
    """Writes to a connected socket, and closes it.

    Data goes directly to the kernel, or into a backlog that the I/O thread sends.
    Only the stream's owner may call ``close``; any thread may call the other
    methods. Only ``wait_flushed`` and ``wait_broken`` block.

    ``max_backlog`` is how many bytes may be queued. ``stall_timeout`` is how many
    seconds the backlog may make no progress, None without limit; after that the
    I/O thread calls ``on_stall``, holding no lock.
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
        #: The peer's host and port; for a trusted proxy, those of its client, once known.
        self.address = address
        #: The error of the operating system or of TLS that broke the connection.
        self.error: OSError | None = None
        #: Called on a stall, instead of ``abort``.
        self.on_stall: Callable[[], None] | None = None
        #: Guards the fields below, and every send and close of the socket, so
        #: that no descriptor is closed during a write. The I/O thread's lock must
        #: not be taken under a stream's lock, so requests to the I/O thread are
        #: made after this lock is released.
        self._lock = threading.Lock()
        self._backlog: Backlog | None = None
        #: When the backlog began or last made progress, on the monotonic clock.
        self._moved_at = 0.0
        self._tls: TLS | None = None
        #: Bytes that the kernel has accepted.
        self.bytes_out = 0
        self._sealed = False
        self._broken = False
        self._closed = False
        #: The I/O thread watches this stream.
        self._watched = False
        #: A timer for ``_check_stall`` is set. There is at most one.
        self._timed = False
        self._drained: threading.Condition | None = None
        sock.settimeout(None if DONTWAIT else 0.0)
        # This fails if the peer is gone. The first read notices that.
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __repr__(self) -> str:
        state = "closed" if self._closed else "sealed" if self._sealed else "open"
        return f"<Stream {format_address(self.address)} {state}, {self.backlog_size} bytes queued>"

    @property
    def backlog_size(self) -> int:
        """Bytes that wait until the peer takes them."""
        # Without the lock, another thread may set the field to None, so read it once.
        backlog = self._backlog
        return 0 if backlog is None else backlog.size

    def fileno(self) -> int:
        """The socket's descriptor, -1 after the socket is closed."""
        return self._sock.fileno()

    # Writing.

    def write(self, data: bytes) -> Written:  # noqa: PLR0911 - the hot path, without calls
        """Send ``data`` or queue it; never blocks.

        If nothing is queued, ``data`` goes directly to the kernel, and the part
        that the kernel does not accept is queued whatever its size. If there is a
        backlog, ``data`` that would exceed its limit is an overflow.
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
            # This repeats _send_locked() to save a call: a fan-out runs this code
            # for each member and each batch.
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
        """Write ``last``, then accept no more data. False: the stream was sealed before.

        With ``discard``, queued writes are dropped, except the one that the kernel
        has begun: a frame is never cut. ``last`` is queued even if the backlog is
        full.
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

        Returns True for a broken stream, because nothing is queued any more.
        """
        with self._lock:
            return self._wait_locked(lambda: self._backlog is None, deadline)

    def wait_broken(self, deadline: Deadline) -> bool:
        """Block until the stream is broken or closed. False: the deadline came first.

        Use it as a pause that ends early if the connection is aborted.
        """
        with self._lock:
            return self._wait_locked(lambda: self._broken, deadline)

    def shutdown_write(self) -> None:
        """Send FIN after the data that was written. Call it when nothing is queued."""
        with self._lock:
            self._sealed = True
            if self._tls is not None and self._backlog is None and not self._broken:
                self._send_locked(self._tls.close_notify())
            # This fails if the peer has reset the connection; then it is closed anyway.
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_WR)

    def abort(self) -> None:
        """End the connection at once; a blocked ``read`` returns.

        This is a ``shutdown``, which wakes a thread that is blocked in ``recv``;
        ``close`` does not wake it. The owner closes the socket later.
        """
        with self._lock:
            self._break_locked(None)

    def close(self) -> None:
        """Close the socket. Queued data is lost."""
        with self._lock:
            if self._closed:
                return
            self._break_locked(None)
            self._closed = True
            self.on_stall = None
            # While the I/O thread watches the descriptor, only release() and
            # abandon() close it: after a close here, another socket could get its
            # number while it is still watched. The shutdown has woken the I/O thread.
            if not self._watched:
                self._sock.close()

    # For the I/O thread.

    def flush(self) -> bool:
        """Write what the kernel accepts now. True: nothing is left. On the I/O thread."""
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
        """End the watch of the I/O thread. False: there is a backlog, so it must go on."""
        with self._lock:
            if self._backlog is not None:
                return False
            self._watched = False
            if self._closed:
                self._sock.close()
            return True

    def abandon(self) -> None:
        """Break the stream: without an I/O thread, queued data cannot be sent."""
        with self._lock:
            self._watched = False
            self._break_locked(None)
            if self._closed:
                self._sock.close()

    # The caller holds the lock.

    def _encode_locked(self, data: bytes) -> bytes:
        """``data`` as bytes for the network: encrypted, if the stream has TLS."""
        if self._tls is None:
            return data
        try:
            return self._tls.encrypt(data)
        except ssl.SSLError as exc:
            self._break_locked(exc)
            return b""

    def _send_locked(self, raw: bytes | memoryview) -> int:
        """Send without blocking. Returns how many bytes the kernel has accepted."""
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
        """Send ``data`` while nothing is queued. True: the I/O thread must send the rest."""
        raw = data if self._tls is None else self._encode_locked(data)
        sent = self._send_locked(raw)
        return sent < len(raw) and self._keep_locked(memoryview(raw)[sent:])

    def _begin_raw_locked(self, raw: bytes) -> bool:
        """Send TLS protocol data ahead of all data that waits for encryption.

        True: the I/O thread must send the rest.
        """
        if not raw or self._sealed:
            return False
        if self._backlog is not None:
            if self._backlog.size + len(raw) > self._max_backlog:
                # The peer keeps asking for new keys, but does not read the answers.
                self._break_locked(None)
            else:
                self._backlog.append_begun(raw)
            return False
        sent = self._send_locked(raw)
        return sent < len(raw) and self._keep_locked(memoryview(raw)[sent:])

    def _keep_locked(self, rest: memoryview) -> bool:
        """Begin a backlog with ``rest``. True: the I/O thread does not watch the stream yet."""
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
        """End all writing, and wake every thread that waits for this stream."""
        if self.error is None:
            self.error = error
        self._sealed = True
        self._broken = True
        self._forget_backlog_locked()
        if not self._closed:
            # This raises ENOTCONN if the peer has closed the connection already.
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)

    # The caller does not hold the lock.

    def _have_it_flushed(self) -> None:
        try:
            watched = self._io_thread.watch(self)
        except (OSError, RuntimeError):
            # An I/O thread that cannot start is treated like one that has ended.
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
        """Call ``on_stall`` if the backlog has made no progress in time. On the I/O thread."""
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
