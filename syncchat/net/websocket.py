"""A WebSocket: a stream, the protocol, and the lock that joins them."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from types import TracebackType
from typing import Self, assert_never

from ..closecodes import ABNORMAL, INTERNAL_ERROR, NORMAL, ORDERLY, TRY_AGAIN_LATER, check_close
from ..errors import ConnectionClosed
from .address import Address, format_address
from .backlog import Written
from .handshake import HandshakeResult
from .heartbeat import PendingPings
from .http import Request
from .io_thread import Deadline, IOThread
from .limits import Limits
from .protocol import Close, Control, Fragment, Message, Ping, Pong, Violation, checked
from .receiver import Later, Reader, Receiver, Take
from .stream import Stream

__all__ = ["LINGER_BYTES", "Handler", "WebSocket"]

# Looking up a member of an enumeration is slow, and each write uses them.
_ACCEPTED, _REFUSED, _OVERFLOW = Written.ACCEPTED, Written.REFUSED, Written.OVERFLOW

#: Bytes that a peer may still send after the closing handshake.
LINGER_BYTES = 16 * 1024 * 1024


class WebSocket:
    """One end of an open WebSocket connection. Any thread may call every method.

    Threads that receive at the same time take turns. Pings are answered, and the
    peer's Close is handled, only while a thread is in ``recv``, ``recv_many`` or an
    iteration. Of the other methods, only ``flush`` and ``close`` wait for the peer.
    Created by :func:`syncchat.net.serve` and :func:`syncchat.net.connect`.
    """

    def __init__(
        self,
        stream: Stream,
        handshake: HandshakeResult,
        io_thread: IOThread,
        *,
        is_client: bool,
        limits: Limits,
        on_slow: Callable[[WebSocket], None] | None = None,
        reader: Reader | None = None,
    ) -> None:
        #: Whether this is the client side, whose frames are masked.
        self.is_client = is_client
        #: The handshake request, and the negotiated subprotocol, or None.
        self.request: Request = handshake.request
        self.subprotocol: str | None = handshake.subprotocol
        #: On the client's side, the headers of the server's answer except those of the
        #: handshake itself, by lower-case names.
        self.response_headers: Mapping[str, str] = handshake.response_headers
        self._stream, self._writer = stream, stream.writer
        self._io_thread = io_thread
        self._limits = limits
        self._on_slow = on_slow
        self._reader = reader
        #: Guards the sending half of the protocol, the record of the end, and the
        #: fields below. Frames are queued under it, in the order of their encoding.
        self._lock = threading.Lock()
        self._protocol = handshake.protocol
        #: When the heartbeat last sent a ping, on the monotonic clock.
        self.pinged_at = 0.0
        self._pings: PendingPings | None = None
        self._receiver = Receiver(
            stream, self._protocol, limits, self._handle, early=bool(handshake.rest)
        )
        self._protocol.receive(handshake.rest)
        self._writer.on_stall = self._stalled

    def __repr__(self) -> str:
        side = f"{'client' if self.is_client else 'server'} side"
        return f"<WebSocket {side}, {format_address(self.remote_address)}, {self._protocol.state}>"

    @property
    def remote_address(self) -> Address:
        """The peer's host and port; for a trusted proxy, those of its client."""
        return self._stream.address

    @property
    def backlog_size(self) -> int:
        """Bytes that were sent and wait until the peer takes them."""
        return self._writer.backlog_size

    @property
    def heard_at(self) -> float:
        """When the last bytes were read, in seconds on the monotonic clock."""
        return self._stream.heard_at

    @property
    def messages_in(self) -> int:
        """The number of complete messages that have arrived."""
        return self._receiver.count

    @property
    def messages_out(self) -> int:
        """The number of messages that were accepted for sending."""
        return self._writer.messages_out

    @property
    def resumed_at(self) -> float:
        """When the last pause of the rate limit ended, on the monotonic clock."""
        return self._receiver.resumed_at

    @property
    def closing(self) -> bool:
        """Whether the peer's Close or violation waits until earlier messages are received."""
        return self._receiver.deferred is not None

    @property
    def close_code(self) -> int | None:
        """The close code, None while the connection is open.

        It is the code of the peer's Close, 1005 if that has none, and 1006 if the
        connection ended without a Close (RFC 6455, section 7.1.5). If this end failed
        the connection, it is the code that this end sent (1002, 1007, 1009, 1013).
        """
        return self._protocol.close_code

    @property
    def close_reason(self) -> str | None:
        """The text that came with the close code, None while the connection is open."""
        return None if self._protocol.close_code is None else self._protocol.close_reason

    # Sending.

    def send(self, message: Message) -> None:
        """Send a text (``str``) or binary (``bytes``) message; never blocks.

        Data that the network does not accept at once is queued. If too much is
        queued, the connection is closed with 1013. Raises :class:`ConnectionClosed`
        if nothing can be sent any more, :class:`UnicodeEncodeError` for a lone
        surrogate, and :class:`TypeError` if it is neither text nor bytes.
        """
        self.act_on(self.offer(message))

    def offer(self, message: Message) -> Written:
        """Send ``message`` without handling the result, which :meth:`act_on` does.

        For a caller that holds a lock under which no callback may run.
        """
        message, _ = checked(message)
        with self._lock:
            return self._write_locked(self._protocol.encode(message), messages=1)

    def act_on(self, written: Written) -> None:
        """Close a slow consumer; raise :class:`ConnectionClosed` if the write was not accepted."""
        if written is not _ACCEPTED:
            if written is _OVERFLOW:
                self._too_slow()
            raise self._protocol.closed()

    def write_frames(self, frames: bytes, messages: int) -> bool:
        """Send encoded frames; never blocks. For :class:`Group`.

        ``frames`` are complete, unmasked frames of the server side, which hold so many
        ``messages``. False: the connection accepts no more.
        """
        # Does not take _lock: a fan-out must not wait for a thread that encodes.
        # A Close seals the stream, so no frame can follow it.
        written = self._writer.write(frames, messages)
        if written is _OVERFLOW:
            self._too_slow()
        return written is _ACCEPTED

    def flush(self, timeout: float | None = None) -> None:
        """Block until the network has accepted everything that was sent.

        ``timeout`` is in seconds, None without limit. Raises :class:`TimeoutError`.
        """
        if not self._writer.wait_flushed(Deadline.after(timeout)):
            raise TimeoutError("the peer did not read the data in time")

    def ping(self, payload: bytes = b"") -> Future[float]:
        """Send a ping with a payload of at most 125 bytes; never blocks.

        The result of the future is the round-trip time in seconds, set while a thread
        receives. If no pong can arrive any more, the future, or this method, raises
        :class:`ConnectionClosed`. Raises :class:`ValueError` for a longer payload.
        """
        if len(payload) > 125:
            raise ValueError("a ping can carry at most 125 bytes")
        with self._lock:
            if self._pings is None:
                self._pings = PendingPings()
            payload, pong = self._pings.add(payload)
            written = self._write_locked(self._protocol.ping(payload))
        self.act_on(written)
        return pong

    def _write_locked(self, frame: bytes | None, messages: int = 0) -> Written:
        """Write ``frame``; None stands for a frame that may not be sent any more."""
        assert self._lock.locked()
        return _REFUSED if frame is None else self._writer.write(frame, messages)

    # Receiving.

    def recv(self, timeout: float | None = None) -> Message:
        """Return the next message, a ``str`` for text and ``bytes`` for binary.

        Waits at most ``timeout`` seconds, without limit by default. Raises
        :class:`TimeoutError`, which leaves the connection usable, and
        :class:`ConnectionClosed` after the last message.
        """
        receiver = self._receiver
        receiver.take_turn(timeout)
        try:
            return receiver.messages.popleft()
        finally:
            receiver.lock.release()

    def recv_many(self, timeout: float | None = None, take: Take | None = None) -> list[Message]:
        """Return all messages that have arrived, at least one. Otherwise like :meth:`recv`.

        While this thread waits without a time limit, ``take`` gets the messages that
        arrive, and this method returns those that it does not take. It must not block. It
        may be called on another thread, to save a switch of threads for each message.
        """
        receiver = self._receiver
        if take is not None and timeout is None and self._reader is not None:
            receiver.follow(self._reader, take)
        receiver.take_turn(timeout)
        try:
            messages = list(receiver.messages)
            receiver.messages.clear()
            return messages
        finally:
            receiver.lock.release()

    def read_for(self, take: Take, later: Later) -> bool:
        """Read what has arrived, on the reader's thread. False: that needs another thread."""
        return self._receiver.read_for(take, later)

    @property
    def is_over(self) -> bool:
        """Whether the connection has ended, and all messages were received."""
        return self._receiver.is_over

    def __iter__(self) -> Iterator[Message]:
        """Iterate over all messages until the connection is closed.

        The iteration ends at the close codes 1000, 1001 and 1005; any other code
        raises :class:`ConnectionClosed`.
        """
        while True:
            try:
                message = self.recv()
            except ConnectionClosed as exc:
                if exc.code in ORDERLY:
                    return
                raise
            yield message

    def _handle(self, event: Control | None) -> None:
        """Handle what is no message; None is the end of the stream. On the receiving thread."""
        match event:
            case None:
                self._end(ABNORMAL, str(self._writer.error or ""))
            case Fragment():
                pass
            case Ping(payload):
                with self._lock:
                    written = self._write_locked(self._protocol.pong(payload))
                if written is _OVERFLOW:
                    self._too_slow()
            case Pong(payload):
                if self._pings is not None:
                    self._pings.answer(payload)
            case Close(code, reason):
                self._send_close(code, reason)
                self._end(code, reason)
            case Violation(code, reason):
                # Fail the connection (RFC 6455, section 7.1.7).
                if self._send_close(code, reason):
                    self._end(code, reason)
                else:
                    self._end(ABNORMAL, "")
            case _:
                assert_never(event)

    def limit_rate(self, rate: float, burst: int) -> None:
        """Hold the peer to these limits instead of the server's ``rate`` and ``burst``.

        Only before the first message is read, as when a :class:`Conversation` is made.
        """
        self._receiver.limit_rate(rate, burst)

    # Closing.

    def close(self, code: int = NORMAL, reason: str = "", timeout: float | None = None) -> None:
        """Do the closing handshake and close the socket.

        Takes at most ``timeout`` seconds, by default ``close_timeout``; then the
        connection is aborted. Messages that still arrive are dropped. Has no effect on
        a closed connection. Raises :class:`ValueError` for a code that may not be sent
        (RFC 6455, section 7.4) or a reason of more than 123 bytes.
        """
        check_close(code, reason)
        deadline = Deadline.after(self._limits.close_timeout if timeout is None else timeout)
        self._send_close(code, reason)
        receiver = self._receiver
        if not receiver.lock.acquire(timeout=deadline.for_lock()):
            # Another thread is reading, and the peer's Close has not arrived in time.
            self._writer.abort()
            receiver.lock.acquire()
        try:
            with contextlib.suppress(TimeoutError):
                while not self._protocol.ended and not deadline.expired:
                    receiver.messages.clear()
                    receiver.advance(deadline)
            self._stream.drain_input(deadline, LINGER_BYTES)
            if self._reader is not None:
                self._reader.dismiss(self._writer.fileno())
            self._writer.close()
            self._end(ABNORMAL, "")
        finally:
            receiver.lock.release()
        if self.is_client:
            self._io_thread.stop()

    def begin_close(
        self, code: int, reason: str, deadline: Deadline, *, discard: bool = False
    ) -> None:
        """Send Close; abort the connection if it is not closed at ``deadline``. Never blocks.

        You can still receive the messages that the peer sent before its own Close. With
        ``discard``, data that is queued for the peer is dropped.
        """
        check_close(code, reason)
        self._send_close(code, reason, discard=discard)
        if deadline.remaining() is not None:
            self._io_thread.call_at(deadline, self._writer.abort)

    def abort(self, reason: str = "") -> None:
        """End the connection without a closing handshake. Never blocks."""
        if reason:
            # The reader sees only the end of the stream.
            self._note_close(ABNORMAL, reason)
        self._writer.abort()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: object, exc: BaseException | None, _traceback: TracebackType | None
    ) -> bool | None:
        failed = isinstance(exc, Exception) and not isinstance(exc, ConnectionClosed)
        self.close(INTERNAL_ERROR if failed else NORMAL)
        return None

    def _send_close(self, code: int, reason: str, *, discard: bool = False) -> bool:
        """Send Close. False: one was sent before, or the connection has ended."""
        with self._lock:
            close = self._protocol.close(code, reason)
            if close is not None:
                self._writer.seal(close, discard=discard)
            return close is not None

    def _end(self, code: int, reason: str) -> None:
        """Record that no further message will arrive. The first code recorded is kept."""
        with self._lock:
            self._protocol.end(code, reason)
        if self._pings is not None:
            self._pings.fail(self._protocol.closed())

    def _note_close(self, code: int, reason: str) -> bool:
        """Record why this end is about to end the connection. False: that is recorded already."""
        with self._lock:
            return self._protocol.note_close(code, reason)

    # Slow consumers.

    def _too_slow(self, reason: str = "too slow: the backlog is full") -> None:
        """Handle a full backlog: send 1013 after the current frame, and abort at a deadline."""
        if self._note_close(TRY_AGAIN_LATER, reason):
            deadline = Deadline.after(self._limits.close_timeout)
            self.begin_close(TRY_AGAIN_LATER, reason, deadline, discard=True)
            if self._on_slow is not None:
                self._on_slow(self)

    def _stalled(self) -> None:
        """Handle a stall: abort, because a Close cannot be sent either. On the I/O thread."""
        slow = self._note_close(TRY_AGAIN_LATER, "too slow: the backlog made no progress")
        self._writer.abort()
        if slow and self._on_slow is not None:
            self._on_slow(self)

    def shed(self) -> None:
        """Close the connection as too slow, because the server is short of memory."""
        self._too_slow("too slow: the backlogs of all clients are too large")

    # For the heartbeat, on the I/O thread.

    def has_input(self) -> bool:
        """Whether bytes have arrived that are not read yet."""
        return self._writer.has_input()

    def send_ping(self) -> None:
        """Ping the peer without waiting for the pong."""
        self.pinged_at = time.monotonic()
        with self._lock:
            written = self._write_locked(self._protocol.ping(b""))
        if written is _OVERFLOW:
            self._too_slow()


#: Serves one connection on the connection's thread, after the opening handshake.
#: When it returns, the connection is closed. It may raise :class:`ConnectionClosed`.
Handler = Callable[[WebSocket], None]
