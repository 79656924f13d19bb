"""The writing half of a stream: a write never blocks, and the rest becomes the backlog."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from enum import Enum, auto

from .io_thread import Deadline, IOThread
from .tls import TLS

__all__ = ["DONTWAIT", "Writer", "Written"]

#: Maximum bytes of small writes that are joined into one send.
_CHUNK = 262144


class Written(Enum):
    """The result of a write."""

    ACCEPTED = auto()  #: The data is sent or queued.
    REFUSED = auto()  #: No more data is accepted: the writer is sealed, broken or closed.
    OVERFLOW = auto()  #: The backlog is full: the peer is a slow consumer. Nothing was queued.


# Looking up a member of an enumeration is slow, and each write uses them.
_ACCEPTED, _REFUSED, _OVERFLOW = Written.ACCEPTED, Written.REFUSED, Written.OVERFLOW

#: Makes a single call non-blocking on a blocking socket. On platforms without it
#: (Windows) the socket is non-blocking, and a reader waits with a selector.
DONTWAIT: int = getattr(socket, "MSG_DONTWAIT", 0)


class Backlog:
    """A queue of writes, of which the first may be partly sent.

    At its head are begun bytes, ready for the network: the rest of a write that the kernel
    has accepted in part. After them come waiting writes, complete and not yet encrypted,
    which can be dropped without cutting a frame. Only one thread at a time may use it.
    """

    __slots__ = ("_begun", "_waiting", "size")

    def __init__(self) -> None:
        self._begun: deque[bytes | memoryview] = deque()
        self._waiting: deque[bytes] = deque()
        #: Bytes in the queue.
        self.size = 0

    def append(self, data: bytes) -> None:
        """Add a complete write at the end of the queue."""
        self._waiting.append(data)
        self.size += len(data)

    def append_begun(self, raw: bytes | memoryview) -> None:
        """Add network-ready bytes after the begun bytes, before the waiting writes."""
        self._begun.append(raw)
        self.size += len(raw)

    def put_back(self, raw: bytes | memoryview) -> None:
        """Put network-ready bytes that were taken, but not sent, back at the head."""
        self._begun.appendleft(raw)
        self.size += len(raw)

    def take_begun(self) -> bytes | memoryview:
        """Remove and return the first begun bytes; ``b""`` if there are none."""
        raw = self._begun.popleft() if self._begun else b""
        self.size -= len(raw)
        return raw

    def take_waiting(self) -> bytes:
        """Remove and return the oldest waiting write, joined with the next ones if small."""
        pieces = [self._waiting.popleft()]
        size = len(pieces[0])
        while self._waiting and size + len(self._waiting[0]) <= _CHUNK:
            pieces.append(self._waiting.popleft())
            size += len(pieces[-1])
        self.size -= size
        return b"".join(pieces)

    def drop_waiting(self) -> None:
        """Drop all waiting writes."""
        self.size -= sum(map(len, self._waiting))
        self._waiting.clear()


class Writer:
    """Writes to a connected socket, encrypts, and closes it. From any thread.

    Only ``wait_flushed`` and ``wait_broken`` block. Data goes directly to the kernel, or into
    a backlog that the I/O thread sends. ``max_backlog`` is how many bytes may be queued.
    If there is no progress for ``stall_timeout`` seconds, the I/O thread calls ``on_stall``.
    """

    __slots__ = (
        "_backlog",
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
        "broken",
        "bytes_out",
        "error",
        "messages_out",
        "on_stall",
    )

    def __init__(
        self,
        sock: socket.socket,
        io_thread: IOThread,
        *,
        max_backlog: int,
        stall_timeout: float | None,
    ) -> None:
        self._sock = sock
        self._io_thread = io_thread
        self._max_backlog = max_backlog
        self._stall_timeout = stall_timeout
        #: Called on a stall, instead of ``abort``.
        self.on_stall: Callable[[], None] | None = None
        #: Guards the fields below, and every send and close of the socket. The I/O thread's
        #: lock must not be taken under it: requests to that thread are made afterwards.
        self._lock = threading.Lock()
        self._backlog: Backlog | None = None
        #: When the backlog began or last made progress, on the monotonic clock.
        self._moved_at = 0.0
        self._tls: TLS | None = None
        #: Bytes that the kernel has accepted; messages in accepted writes.
        self.bytes_out = self.messages_out = 0
        self._sealed = False
        #: The connection is aborted, by this end or by this error.
        self.broken = False
        self.error: OSError | None = None
        self._closed = False
        #: The I/O thread watches this writer.
        self._watched = False
        #: The timer for ``_check_stall`` is set.
        self._timed = False
        self._drained: threading.Condition | None = None

    def __repr__(self) -> str:
        return f"<Writer of descriptor {self.fileno()}, {self.backlog_size} bytes queued>"

    @property
    def backlog_size(self) -> int:
        """Bytes that wait until the peer takes them."""
        backlog = self._backlog  # read once: another thread may set it to None
        return 0 if backlog is None else backlog.size

    def write(self, data: bytes, messages: int = 0) -> Written:
        """Send ``data``, which holds so many ``messages``, or queue it; never blocks.

        If nothing is queued, ``data`` goes directly to the kernel, and the rest is
        queued whatever its size. Otherwise the backlog's limit applies.
        """
        # A fan-out runs this code for each delivery, so it does not call _send_locked().
        with self._lock:
            if self._sealed:
                return _REFUSED
            backlog = self._backlog
            if backlog is not None:
                if backlog.size + len(data) > self._max_backlog:
                    return _OVERFLOW
                backlog.append(data)
                self.messages_out += messages
                return _ACCEPTED
            raw = data
            try:
                if self._tls is not None:
                    raw = self._tls.encrypt(data)
                sent = self._sock.send(raw, DONTWAIT)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError as exc:
                self._break_locked(exc)
                return _REFUSED
            self.bytes_out += sent
            self.messages_out += messages
            if sent == len(raw):
                return _ACCEPTED
            watch = self._keep_locked(memoryview(raw)[sent:])
        if watch:
            self._have_it_sent()
        return _ACCEPTED

    def hold(self, data: bytes) -> None:
        """Queue ``data`` before all other writes, which are queued until :meth:`send_held`."""
        with self._lock:
            self._keep_locked(memoryview(self._encrypt_locked(data)))

    def send_held(self) -> None:
        """Send what was queued since :meth:`hold`."""
        if not (self.flush() and self.release()):
            self._have_it_sent()

    def seal(self, last: bytes, *, discard: bool = False) -> bool:
        """Write ``last``, even to a full backlog, then accept no more. False: it was sealed.

        ``discard`` drops queued writes, but cuts no frame that the kernel has begun.
        """
        with self._lock:
            if self._sealed:
                return False
            self._sealed = True
            if self._backlog is not None:
                if discard:
                    self._backlog.drop_waiting()
                self._backlog.append(last)
                return True
            watch = self._begin_locked(self._encrypt_locked(last))
        if watch:
            self._have_it_sent()
        return True

    def wait_flushed(self, deadline: Deadline) -> bool:
        """Block until nothing is queued, or the connection is aborted. False: the deadline came."""
        return self._wait(lambda: self._backlog is None, deadline)

    def wait_broken(self, deadline: Deadline) -> bool:
        """Block until the connection is aborted or closed. False: the deadline came first."""
        return self._wait(lambda: self.broken, deadline)

    def _wait(self, condition: Callable[[], bool], deadline: Deadline) -> bool:
        with self._lock:
            if condition():
                return True
            if self._drained is None:
                self._drained = threading.Condition(self._lock)
            return self._drained.wait_for(condition, deadline.remaining())

    # The end.

    def shutdown_write(self) -> None:
        """Send FIN after the data that was written. Call it when nothing is queued."""
        with self._lock:
            self._sealed = True
            if self._tls is not None and self._backlog is None and not self.broken:
                self._send_locked(self._tls.close_notify())
            if not self.broken:
                # This fails if the peer has reset the connection; then it is closed anyway.
                with contextlib.suppress(OSError):
                    self._sock.shutdown(socket.SHUT_WR)

    def abort(self, error: OSError | None = None) -> None:
        """End the connection at once; a blocked ``read`` returns, which a close would not do."""
        with self._lock:
            self._break_locked(error)

    def close(self) -> None:
        """Close the socket; queued data is lost. Only for the thread that reads."""
        with self._lock:
            if self._closed:
                return
            self._break_locked(None)
            self._closed = True
            self.on_stall = None
            # A watched descriptor is closed by release() or abandon(): otherwise another
            # socket could get its number. The shutdown has woken the I/O thread.
            if not self._watched:
                self._sock.close()

    # For the reader.

    def use_tls(self, tls: TLS) -> None:
        """Encrypt from now on."""
        with self._lock:
            self._tls = tls

    def decrypt(self, received: bytes) -> bytes | None:
        """The decrypted data, ``b""`` at the end of the stream; None: more must be received."""
        with self._lock:
            assert self._tls is not None
            try:
                data, over = self._tls.decrypt(received)
            except ssl.SSLError as exc:
                self._break_locked(exc)
                return b""
            # TLS may have to answer, for example to a key update.
            watch = self._answer_tls_locked(self._tls.outgoing())
        if watch:
            self._have_it_sent()
        return data if data or over else None

    def has_input(self) -> bool:
        """Whether bytes have arrived that are not read yet."""
        with self._lock:
            if self.broken or self._closed:
                return False
            try:
                return bool(self._sock.recv(1, socket.MSG_PEEK | DONTWAIT))
            except OSError:
                return False

    # For the I/O thread: see Flushable.

    def fileno(self) -> int:
        """The socket's descriptor, -1 after the socket is closed."""
        return self._sock.fileno()

    def flush(self) -> bool:
        """Write what the kernel accepts now. True: nothing is left. On the I/O thread."""
        with self._lock:
            while self._backlog is not None:
                raw = self._backlog.take_begun()
                raw = raw or self._encrypt_locked(self._backlog.take_waiting())
                sent = self._send_locked(raw)
                if self.broken:
                    break
                if sent:
                    self._moved_at = time.monotonic()
                if sent < len(raw):
                    self._backlog.put_back(memoryview(raw)[sent:])
                    return False
                if not self._backlog.size:
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
        """Abort: without an I/O thread, queued data cannot be sent."""
        with self._lock:
            self._watched = False
            self._break_locked(None)
            if self._closed:
                self._sock.close()

    def _have_it_sent(self) -> None:
        """Have the I/O thread send the backlog. The caller does not hold the lock."""
        try:
            watched = self._io_thread.watch(self)
        except (OSError, RuntimeError):
            # An I/O thread that cannot start is treated like one that has ended.
            watched = False
        if not watched:
            self.abandon()
            return
        if self._stall_timeout is not None:
            with self._lock:
                begin, self._timed = not self._timed, True
            if begin:
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

    def _encrypt_locked(self, data: bytes) -> bytes:
        """``data`` as bytes for the network: encrypted, if the stream has TLS."""
        assert self._lock.locked()
        if self._tls is None:
            return data
        try:
            return self._tls.encrypt(data)
        except ssl.SSLError as exc:
            self._break_locked(exc)
            return b""

    def _send_locked(self, raw: bytes | memoryview) -> int:
        """Send without blocking. Returns how many bytes the kernel has accepted."""
        assert self._lock.locked()
        try:
            sent = self._sock.send(raw, DONTWAIT)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as exc:
            self._break_locked(exc)
            return 0
        self.bytes_out += sent
        return sent

    def _begin_locked(self, raw: bytes) -> bool:
        """Send ``raw`` while nothing is queued. True: the I/O thread must send the rest."""
        assert self._lock.locked()
        sent = self._send_locked(raw)
        return sent < len(raw) and self._keep_locked(memoryview(raw)[sent:])

    def _answer_tls_locked(self, raw: bytes) -> bool:
        """Send TLS data ahead of waiting writes. True: the I/O thread must send the rest."""
        assert self._lock.locked()
        if not raw or self._sealed:
            return False
        if self._backlog is None:
            return self._begin_locked(raw)
        if self._backlog.size + len(raw) > self._max_backlog:
            # The peer keeps asking for new keys, but does not read the answers.
            self._break_locked(None)
        else:
            self._backlog.append_begun(raw)
        return False

    def _keep_locked(self, rest: memoryview) -> bool:
        """Begin a backlog with ``rest``. True: the I/O thread does not watch it yet."""
        assert self._lock.locked()
        if self.broken:
            return False
        self._backlog = Backlog()
        self._backlog.append_begun(rest)
        self._moved_at = time.monotonic()
        watch, self._watched = not self._watched, True
        return watch

    def _forget_backlog_locked(self) -> None:
        assert self._lock.locked()
        self._backlog = None
        if self._drained is not None:
            self._drained.notify_all()

    def _break_locked(self, error: OSError | None) -> None:
        """End all reading and writing, and wake every thread that waits for them."""
        assert self._lock.locked()
        if self.error is None:
            self.error = error
        self._sealed = True
        was_broken, self.broken = self.broken, True
        self._forget_backlog_locked()
        if not was_broken:
            # This raises ENOTCONN if the peer has closed the connection already.
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)
