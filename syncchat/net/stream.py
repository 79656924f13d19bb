"""One connected TCP socket as bytes: reads may block, writes never do."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from enum import Enum, auto

from .address import Address, address_of, format_address
from .deadline import Deadline
from .flusher import Flusher

__all__ = ["Stream", "Written"]


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
#: platform lacks it (Windows) the socket is non-blocking and reads wait first.
_DONTWAIT: int = getattr(socket, "MSG_DONTWAIT", 0)

#: Bytes that one read asks for: little while little comes, since a thread that
#: waits in recv() holds a buffer of that size; more as soon as a read was full.
_SMALL_READ = 4096
_LARGE_READ = 65536

#: Bytes that one flush joins into one send.
_FLUSH_SIZE = 262144

# A selector that costs no descriptor, to wait for one socket with a time limit.
_OneSelector: type[selectors.BaseSelector] = getattr(
    selectors, "PollSelector", selectors.SelectSelector
)


class Stream:
    """One end of a TCP connection, owned by whoever reads from it.

    ``read``, ``drain_input`` and ``close`` are for the owner, one thread at a
    time. Every other method may be called from any thread, and none of them
    blocks but ``wait_flushed``.

    ``max_backlog`` is how many bytes may be queued; ``stall_timeout`` how many
    seconds the queue may stand still, None for ever: past that the flusher's thread calls
    ``on_stall``, outside every lock.
    """

    __slots__ = (
        "_broken",
        "_closed",
        "_drained",
        "_flusher",
        "_lock",
        "_max_backlog",
        "_moved_at",
        "_queue",
        "_queued",
        "_read_size",
        "_sealed",
        "_sock",
        "_stall_timeout",
        "_timed",
        "_watched",
        "address",
        "error",
        "on_stall",
    )

    def __init__(
        self,
        sock: socket.socket,
        flusher: Flusher,
        *,
        address: Address | None = None,
        max_backlog: int,
        stall_timeout: float | None,
    ) -> None:
        self._sock = sock
        self._flusher = flusher
        self._max_backlog = max_backlog
        self._stall_timeout = stall_timeout
        #: The peer's host and port.
        self.address = address_of(sock.getpeername()) if address is None else address
        #: Why the connection broke, where the operating system said so.
        self.error: OSError | None = None
        #: What a stall calls instead of ``abort``.
        self.on_stall: Callable[[], None] | None = None
        #: Guards the fields below, and every send and close of the socket, so
        #: that a descriptor is never closed under a write. The flusher's lock
        #: may be taken under no stream's lock: word is left after it.
        self._lock = threading.Lock()
        self._queue: deque[bytes | memoryview] | None = None
        self._queued = 0
        self._moved_at = 0.0
        self._sealed = False
        self._broken = False
        self._closed = False
        #: The flusher watches this stream.
        self._watched = False
        #: A timer for ``_check_stall`` is set; there is one at most.
        self._timed = False
        self._drained: threading.Condition | None = None
        self._read_size = _SMALL_READ
        sock.settimeout(None if _DONTWAIT else 0.0)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __repr__(self) -> str:
        state = "closed" if self._closed else "sealed" if self._sealed else "open"
        return f"<Stream {format_address(self.address)} {state}, {self._queued} bytes queued>"

    def fileno(self) -> int:
        """The socket's descriptor, -1 once it is closed."""
        return self._sock.fileno()

    # Writing, from any thread.

    def write(self, data: bytes) -> Written:
        """Send ``data`` or queue it; never blocks.

        Straight to the kernel where nothing is queued. ``data`` that the
        kernel did not take whole is queued whatever its size; what would put
        a queue that stands already over the limit overflows.
        """
        with self._lock:
            if self._sealed:
                return _REFUSED
            if self._queue is None:
                try:
                    sent = self._sock.send(data, _DONTWAIT)
                except (BlockingIOError, InterruptedError):
                    sent = 0
                except OSError as exc:
                    self._break_locked(exc)
                    return _REFUSED
                if sent == len(data):
                    return _ACCEPTED
                self._enqueue_locked(memoryview(data)[sent:])
                watch = not self._watched
                self._watched = True
            elif self._queued + len(data) <= self._max_backlog:
                self._enqueue_locked(data)
                return _ACCEPTED
            else:
                return _OVERFLOW
        if watch:
            self._have_it_flushed()
        return _ACCEPTED

    def seal(self, last: bytes, *, discard: bool = False) -> bool:
        """Write ``last``, then take no more. False: it took no more already.

        With ``discard``, what is queued goes, but for the write that the
        kernel has begun: a frame is never cut. ``last`` is queued however full
        the queue is.
        """
        with self._lock:
            if self._sealed:
                return False
            self._sealed = True
            watch = False
            if self._queue is None:
                try:
                    sent = self._sock.send(last, _DONTWAIT)
                except (BlockingIOError, InterruptedError):
                    sent = 0
                except OSError as exc:
                    self._break_locked(exc)
                    return True
                if sent < len(last):
                    self._enqueue_locked(memoryview(last)[sent:])
                    watch = not self._watched
                    self._watched = True
            else:
                if discard:
                    begun = self._queue[0]
                    self._queue.clear()
                    self._queued = 0
                    self._enqueue_locked(begun)
                self._enqueue_locked(last)
        if watch:
            self._have_it_flushed()
        return True

    def wait_flushed(self, deadline: Deadline) -> bool:
        """Block until nothing is queued. False: the deadline came first.

        Returns True for a stream that broke, since nothing is queued any more.
        """
        with self._lock:
            if self._queue is None:
                return True
            if self._drained is None:
                self._drained = threading.Condition(self._lock)
            return self._drained.wait_for(lambda: self._queue is None, deadline.remaining())

    def shutdown_write(self) -> None:
        """Send FIN behind what was written. Call it with nothing queued."""
        with self._lock:
            self._sealed = True
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

    # Reading and closing, for the owner.

    def read(self, deadline: Deadline | None = None) -> bytes:
        """The next bytes; ``b""`` at the end of the stream, a broken one included.

        Raises :class:`TimeoutError` at the deadline.
        """
        if deadline is not None or not _DONTWAIT:
            self._wait_readable(deadline)
        if self._broken:
            # What the kernel still holds is of no interest after an abort.
            return b""
        size = self._read_size
        try:
            data = self._sock.recv(size)
        except BlockingIOError:
            # Only without MSG_DONTWAIT, where readiness can be withdrawn.
            return self.read(deadline)
        except OSError as exc:
            with self._lock:
                self._break_locked(exc)
            return b""
        if len(data) == size:
            self._read_size = _LARGE_READ
        elif size != _SMALL_READ:
            self._read_size = _SMALL_READ
        return data

    def drain_input(self, deadline: Deadline, limit: int) -> None:
        """Send FIN, then read and drop until the peer's FIN, the deadline or ``limit`` bytes.

        A socket closed with input unread sends RST, which can destroy what
        was written last on its way to the peer (RFC 1122, section 4.2.2.13).
        """
        self.wait_flushed(deadline)
        self.shutdown_write()
        with contextlib.suppress(TimeoutError):
            while limit > 0:
                data = self.read(deadline)
                if not data:
                    return
                limit -= len(data)

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
            while self._queue is not None:
                chunk = self._next_chunk_locked(self._queue)
                try:
                    sent = self._sock.send(chunk, _DONTWAIT)
                except (BlockingIOError, InterruptedError):
                    sent = 0
                except OSError as exc:
                    self._break_locked(exc)
                    break
                if sent:
                    self._moved_at = time.monotonic()
                    self._queued -= sent
                if sent < len(chunk):
                    self._queue.appendleft(memoryview(chunk)[sent:])
                    return False
                if not self._queue:
                    self._forget_queue_locked()
            return True

    def release(self) -> bool:
        """The flusher watches no longer. False: it must go on."""
        with self._lock:
            if self._queue is not None:
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

    # Under the lock, or after it.

    def _enqueue_locked(self, data: bytes | memoryview) -> None:
        if self._queue is None:
            self._queue = deque()
            self._moved_at = time.monotonic()
        self._queue.append(data)
        self._queued += len(data)

    @staticmethod
    def _next_chunk_locked(queue: deque[bytes | memoryview]) -> bytes | memoryview:
        """Take the queue's head, joined with its followers while they are small."""
        chunk = queue.popleft()
        if not queue or len(chunk) + len(queue[0]) > _FLUSH_SIZE:
            return chunk
        pieces = [chunk]
        size = len(chunk)
        while queue and size + len(queue[0]) <= _FLUSH_SIZE:
            pieces.append(queue.popleft())
            size += len(pieces[-1])
        return b"".join(pieces)

    def _forget_queue_locked(self) -> None:
        self._queue = None
        self._queued = 0
        if self._drained is not None:
            self._drained.notify_all()

    def _break_locked(self, error: OSError | None) -> None:
        """Nothing more goes out, and whoever waits for this stream is woken."""
        if self.error is None:
            self.error = error
        self._sealed = True
        self._broken = True
        self._forget_queue_locked()
        if not self._closed:
            # ENOTCONN where the peer was faster.
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)

    def _have_it_flushed(self) -> None:
        if not self._flusher.watch(self):
            self.abandon()
            return
        if self._stall_timeout is None:
            return
        with self._lock:
            if self._timed:
                return
            self._timed = True
        self._flusher.call_at(Deadline.after(self._stall_timeout), self._check_stall)

    def _check_stall(self) -> None:
        """On the flusher: has the queue moved within the limit?"""
        with self._lock:
            if self._queue is None:
                self._timed = False
                return
            limit = self._moved_at + (self._stall_timeout or 0.0)
            stalled = time.monotonic() >= limit
        if stalled:
            (self.on_stall or self.abort)()
        else:
            self._flusher.call_at(Deadline(limit), self._check_stall)

    def _wait_readable(self, deadline: Deadline | None) -> None:
        # A socket whose own side closed it is at its end, not an error.
        if self._sock.fileno() < 0:
            return
        with _OneSelector() as selector:
            selector.register(self._sock, selectors.EVENT_READ)
            if not selector.select(None if deadline is None else deadline.remaining()):
                raise TimeoutError("no data arrived in time")
