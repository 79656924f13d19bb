"""An answer over HTTP that does not end: for a fan-out, the same as a WebSocket."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ..closecodes import ORDERLY, TRY_AGAIN_LATER, retry_after
from .address import Address
from .backlog import Written
from .http import Request
from .http_answer import Response, encode, encode_chunk
from .io_thread import Deadline, IOThread
from .limits import Limits
from .stream import Stream

__all__ = ["Follower", "Following"]

# Looking up a member of an enumeration is slow, and each write uses them.
_ACCEPTED, _OVERFLOW = Written.ACCEPTED, Written.OVERFLOW

_LAST_CHUNK = b"0\r\n\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Following(Response):
    """A view's answer that does not end.

    The client needs no thread after ``begin``. What it sends is dropped.
    """

    body: bytes | str | Iterable[bytes] = ()

    #: Begins the answer, and may block. On the connection's thread. It may raise
    #: :class:`Refusal` before it has written anything; and :class:`ConnectionClosed`.
    begin: Callable[[Follower], None]
    #: Called once after ``begin``, also if that fails, when the client is gone.
    end: Callable[[], None]
    #: Whether ``end`` may block.
    blocks: bool
    #: Sent in each ping interval, so that proxies and both ends notice a dead connection.
    keep_alive: bytes
    #: Makes the last event for a client that is to reconnect, for the given reason.
    farewell: Callable[[str], bytes]
    #: Asks a client to wait for so many seconds before it reconnects; empty if it cannot be asked.
    pause: Callable[[float], bytes] = lambda _seconds: b""


class Follower:
    """A client that gets an endless answer. Any thread may call every method.

    Its methods and properties are those of :class:`WebSocket`; only ``flush`` waits for the
    client. The answer is chunked, unless the request was HTTP/1.0.
    """

    def __init__(
        self,
        stream: Stream,
        request: Request,
        following: Following,
        io_thread: IOThread,
        limits: Limits,
        on_slow: Callable[[Follower], None],
    ) -> None:
        self.request = request
        self._stream, self._writer = stream, stream.writer
        self._chunked = request.http_version == "1.1"
        self._io_thread = io_thread
        self._limits = limits
        self._on_slow = on_slow
        self._keep_alive = self._framed(following.keep_alive)
        self._farewell, self._pause = following.farewell, following.pause
        #: The head of the answer, until the first write.
        self._head = encode(following, chunked=self._chunked)
        #: Guards the two fields below. No other lock is taken under it.
        self._lock = threading.Lock()
        #: Why this end ends the answer: see :mod:`syncchat.closecodes`. None: it does not.
        self.close_code: int | None = None
        self.close_reason: str | None = None
        #: When ``keep_alive`` was sent last, on the monotonic clock.
        self.pinged_at = time.monotonic()
        self._writer.on_stall = self._stalled
        if limits.ping_interval:
            # A dead client is noticed as late as one with a WebSocket.
            stream.limit_silence(limits.ping_interval + limits.ping_timeout)

    @property
    def remote_address(self) -> Address:
        """The client's host and port."""
        return self._stream.address

    @property
    def backlog_size(self) -> int:
        """Bytes that wait until the client takes them."""
        return self._writer.backlog_size

    @property
    def has_begun(self) -> bool:
        """Whether the head of the answer is sent."""
        return not self._head

    def write_frames(self, frames: bytes, messages: int) -> bool:
        """Send encoded events, which hold so many ``messages``; never blocks.

        They are chunks, unless the request was HTTP/1.0. The first call must return before
        the next one begins. False: the connection accepts no more.
        """
        if self._head:
            frames, self._head = self._head + frames, b""
        written = self._writer.write(frames, messages)
        if written is _OVERFLOW:
            self._too_slow()
        return written is _ACCEPTED

    def flush(self, timeout: float | None = None) -> None:
        """Block until the network has accepted everything, as :meth:`WebSocket.flush`."""
        if not self._writer.wait_flushed(Deadline.after(timeout)):
            raise TimeoutError("the client did not read the data in time")

    def begin_close(
        self, code: int, reason: str, deadline: Deadline, *, discard: bool = False
    ) -> None:
        """End the answer; abort the connection if it is not closed at ``deadline``. Never blocks.

        With a code that is not orderly, the farewell is sent, and the answer breaks off. With
        ``discard``, data that is queued for the client is dropped.
        """
        self._note_close(code, reason)
        seconds = retry_after(reason)
        last = b"" if seconds is None else self._framed(self._pause(seconds))
        last += _LAST_CHUNK if self._chunked else b""
        if code not in ORDERLY:
            last = self._framed(self._farewell(reason))
        self._writer.seal(last, discard=discard)
        if not self._writer.backlog_size:
            self._writer.shutdown_write()
        if deadline.remaining() is not None:
            self._io_thread.call_at(deadline, self._writer.abort)

    def abort(self, reason: str = "") -> None:  # noqa: ARG002 - as WebSocket.abort()
        """End the connection at once. Never blocks."""
        self._writer.abort()

    def _framed(self, data: bytes) -> bytes:
        # An empty chunk would be the last one.
        return encode_chunk(data) if self._chunked and data else data

    def _note_close(self, code: int, reason: str) -> bool:
        """Record why this end ends the answer. False: that is recorded already."""
        with self._lock:
            if self.close_code is not None:
                return False
            self.close_code, self.close_reason = code, reason
            return True

    def _too_slow(self, reason: str = "too slow: the backlog is full") -> None:
        """Handle a full backlog: say so after the current event, and abort at a deadline."""
        if self._note_close(TRY_AGAIN_LATER, reason):
            deadline = Deadline.after(self._limits.close_timeout)
            self.begin_close(TRY_AGAIN_LATER, reason, deadline, discard=True)
            self._on_slow(self)

    def _stalled(self) -> None:
        """Handle a stall: abort, because nothing else can be sent. On the I/O thread."""
        slow = self._note_close(TRY_AGAIN_LATER, "too slow: the backlog made no progress")
        self._writer.abort()
        if slow:
            self._on_slow(self)

    def shed(self) -> None:
        """Close the connection as too slow, because the server is short of memory."""
        self._too_slow("too slow: the backlogs of all clients are too large")

    # For the heartbeat, on the I/O thread. The client sends nothing, and TCP finds out whether
    # it is there.

    @property
    def heard_at(self) -> float:
        """When ``keep_alive`` was sent last."""
        return self.pinged_at

    @property
    def resumed_at(self) -> float:
        """The same: a rate limit does not apply."""
        return self.pinged_at

    def has_input(self) -> bool:
        """Return True: the client is not aborted for its silence."""
        return True

    def send_ping(self) -> None:
        """Send ``keep_alive``."""
        self.pinged_at = time.monotonic()
        if self._writer.write(self._keep_alive) is _OVERFLOW:
            self._too_slow()
