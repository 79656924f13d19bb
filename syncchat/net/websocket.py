"""A WebSocket: a stream, the protocol, and the lock that joins them."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from math import inf
from typing import Self, assert_never

from ..closecodes import ABNORMAL, NORMAL, ORDERLY, TRY_AGAIN_LATER, check_close
from ..errors import ConnectionClosed
from .address import Address, format_address
from .backlog import Written
from .handshake import HandshakeResult
from .heartbeat import PendingPings
from .http import Request
from .io_thread import Deadline, IOThread
from .limits import Limits, TokenBucket
from .protocol import Close, Fragment, Message, Ping, Pong, Violation, checked
from .stream import Stream

__all__ = ["WebSocket"]

# Looking up a member of an enumeration is slow, and each write uses them.
_ACCEPTED, _REFUSED, _OVERFLOW = Written.ACCEPTED, Written.REFUSED, Written.OVERFLOW

#: Bytes that a peer may still send after the closing handshake.
_LINGER_BYTES = 16 * 1024 * 1024


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
        opening: HandshakeResult,
        io_thread: IOThread,
        *,
        is_client: bool,
        limits: Limits,
        on_slow: Callable[[WebSocket], None] | None = None,
    ) -> None:
        #: Whether this is the client side, whose frames are masked.
        self.is_client = is_client
        #: The handshake request, and the negotiated subprotocol, or None.
        self.request: Request = opening.request
        self.subprotocol: str | None = opening.subprotocol
        #: On the client's side, the headers of the server's answer except those of the
        #: handshake itself, by lower-case names.
        self.response_headers: Mapping[str, str] = opening.response_headers
        self._stream, self._writer = stream, stream.writer
        self._io_thread = io_thread
        self._limits = limits
        self._on_slow = on_slow
        #: Guards the sending half of the protocol, the record of the end, and the
        #: fields below. Frames are queued under it, in the order of their encoding.
        self._lock = threading.Lock()
        self._protocol = opening.protocol
        #: The number of messages that were accepted for sending.
        self.messages_out = 0
        #: When the heartbeat last sent a ping, on the monotonic clock.
        self.pinged_at = 0.0
        self._pings: PendingPings | None = None
        #: Held by the one thread that reads; guards the receiving half of the protocol
        #: and the fields below. Reentrant: the reading thread runs the callbacks of a
        #: ping's future, and a callback may call close().
        self._recv_lock = threading.RLock()
        #: Messages that have arrived, but are not handed out.
        self._messages: deque[Message] = deque()
        #: The number of complete messages that have arrived.
        self.messages_in = 0
        self._bucket = TokenBucket(limits.rate, limits.burst) if limits.rate else None
        #: The rate limit allows no further frame before this moment, 0.0 without a
        #: pause; and when the last pause ended; both on the monotonic clock.
        self._paused_until = 0.0
        self.resumed_at = 0.0
        #: The peer's Close or violation, handled after all earlier messages are handed out.
        self._deferred: Close | Violation | None = None
        #: Frames that arrived in one packet with the handshake are not parsed yet.
        self._early = bool(opening.rest)
        self._protocol.receive(opening.rest)
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
    def closing(self) -> bool:
        """Whether the peer's Close or violation waits until earlier messages are received."""
        return self._deferred is not None

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
            written = self._write_locked(self._protocol.encode(message))
        if written is _ACCEPTED:
            self.messages_out += 1
        return written

    def act_on(self, written: Written) -> None:
        """Close a slow consumer; raise :class:`ConnectionClosed` if the write was not accepted."""
        if written is not _ACCEPTED:
            if written is _OVERFLOW:
                self._too_slow()
            raise self._closed()

    def write_frames(self, frames: bytes, messages: int) -> bool:
        """Send encoded frames; never blocks. For :class:`Group`.

        ``frames`` are complete, unmasked frames of the server side, which hold so many
        ``messages``. False: the connection accepts no more.
        """
        # Does not take _lock: a fan-out must not wait for a thread that encodes.
        # A Close seals the stream, so no frame can follow it.
        written = self._writer.write(frames)
        if written is _ACCEPTED:
            self.messages_out += messages
            return True
        if written is _OVERFLOW:
            self._too_slow()
        return False

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

    def _write_locked(self, frame: bytes | None) -> Written:
        """Write ``frame``; None stands for a frame that may not be sent any more."""
        assert self._lock.locked()
        return _REFUSED if frame is None else self._writer.write(frame)

    # Receiving.

    def recv(self, timeout: float | None = None) -> Message:
        """Return the next message, a ``str`` for text and ``bytes`` for binary.

        Waits at most ``timeout`` seconds, without limit by default. Raises
        :class:`TimeoutError`, which leaves the connection usable, and
        :class:`ConnectionClosed` after the last message.
        """
        self._take_turn(timeout)
        try:
            return self._messages.popleft()
        finally:
            self._recv_lock.release()

    def recv_many(self, timeout: float | None = None) -> list[Message]:
        """Return all messages that have arrived, at least one. Otherwise like :meth:`recv`."""
        self._take_turn(timeout)
        try:
            messages = list(self._messages)
            self._messages.clear()
            return messages
        finally:
            self._recv_lock.release()

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

    def _take_turn(self, timeout: float | None) -> None:
        """Return with _recv_lock held and a message ready; raise with the lock released."""
        deadline = None
        if timeout is None:
            self._recv_lock.acquire()
        else:
            deadline = Deadline.after(timeout)
            if not self._recv_lock.acquire(timeout=deadline.for_lock()):
                raise TimeoutError("no message arrived in time")
        try:
            while not self._messages:
                if self._protocol.ended:
                    raise self._closed()
                self._advance(deadline)
                news = self._messages or self._protocol.ended
                if deadline is not None and deadline.expired and not news:
                    # The peer keeps sending, but does not complete a message.
                    raise TimeoutError("no message arrived in time")
        except BaseException:
            self._recv_lock.release()
            raise

    # The caller holds _recv_lock.

    def _advance(self, deadline: Deadline | None) -> None:
        """Do the next step: end the connection, pause, or read. Raises :class:`TimeoutError`."""
        if self._deferred is not None:
            self._finish(self._deferred)
            return
        if self._paused_until:
            self._pause(deadline)
        elif not self._early:
            data = self._stream.read(deadline)
            if not data:
                self._end(ABNORMAL, str(self._writer.error or ""))
                return
            self._protocol.receive(data)
        self._early = False
        # Parse until no bytes are left or the rate limit is reached.
        while (event := self._protocol.next_event()) is not None:
            match event:
                case str() | bytes():
                    self.messages_in += 1
                    self._messages.append(event)
                case _:
                    self._handle(event)
                    if self._protocol.ended or self._deferred is not None:
                        return
            if self._bucket is not None and (moment := self._bucket.charge()) > time.monotonic():
                self._paused_until = moment
                return

    def _pause(self, deadline: Deadline | None) -> None:
        """Wait as long as the rate limit demands. Raises :class:`TimeoutError`."""
        end = Deadline(min(self._paused_until, deadline.at if deadline else inf))
        if not self._writer.wait_broken(end) and end.at < self._paused_until:
            raise TimeoutError("the rate limit allows no message in time")
        self._paused_until = 0.0
        self.resumed_at = time.monotonic()

    def _handle(self, event: Fragment | Ping | Pong | Close | Violation) -> None:
        match event:
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
            case Close() | Violation():
                self._deferred = event
                if not self._messages:
                    self._finish(event)
            case _:
                assert_never(event)

    def _finish(self, event: Close | Violation) -> None:
        """Answer the peer's Close, or fail the connection (RFC 6455, section 7.1.7)."""
        self._deferred = None
        if self._send_close(event.code, event.reason) or isinstance(event, Close):
            self._end(event.code, event.reason)
        else:
            self._end(ABNORMAL, "")

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
        if not self._recv_lock.acquire(timeout=deadline.for_lock()):
            # Another thread is reading, and the peer's Close has not arrived in time.
            self._writer.abort()
            self._recv_lock.acquire()
        try:
            with contextlib.suppress(TimeoutError):
                while not self._protocol.ended and not deadline.expired:
                    self._messages.clear()
                    self._advance(deadline)
            self._stream.drain_input(deadline, _LINGER_BYTES)
            self._writer.close()
            self._end(ABNORMAL, "")
        finally:
            self._recv_lock.release()
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

    def __exit__(self, *exc_info: object) -> None:
        self.close()

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
            self._pings.fail(self._closed())

    def _closed(self) -> ConnectionClosed:
        code = self._protocol.close_code
        return ConnectionClosed(ABNORMAL if code is None else code, self._protocol.close_reason)

    def _note_close(self, code: int, reason: str) -> bool:
        """Record why this end is about to end the connection. False: that is recorded already."""
        with self._lock:
            return self._protocol.note_close(code, reason)

    # Slow consumers.

    def _too_slow(self) -> None:
        """Handle a full backlog: send 1013 after the current frame, and abort at a deadline."""
        reason = "too slow: the backlog is full"
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
