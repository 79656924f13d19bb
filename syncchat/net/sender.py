"""The sending side of a WebSocket, and its end: usable from any thread, never blocks."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import CloseConnection, Event, Ping, Pong

from ..closecodes import ABNORMAL, TRY_AGAIN_LATER, check_close
from ..errors import ConnectionClosed
from .address import Address, format_address
from .backlog import Written
from .deadline import Deadline
from .io_thread import IOThread
from .limits import Limits
from .messages import Message, event_of
from .stream import Stream

__all__ = ["Sender"]

# Looking up a member of an enumeration is slow, and each write uses them.
_ACCEPTED, _REFUSED, _OVERFLOW = Written.ACCEPTED, Written.REFUSED, Written.OVERFLOW
_OPEN = ConnectionState.OPEN
_CLIENT, _SERVER = ConnectionType.CLIENT, ConnectionType.SERVER

#: The heartbeat's ping, the same bytes for every client.
_PING = bytes(Connection(_SERVER).send(Ping()))


class Sender:
    """The methods of a WebSocket that any thread may call at any time.

    Every method except ``flush`` returns without waiting for the peer.
    """

    __slots__ = (
        "_close_code",
        "_close_reason",
        "_close_sent",
        "_connection",
        "_ended",
        "_io_thread",
        "_limits",
        "_lock",
        "_on_slow",
        "_pinged_at",
        "_pings",
        "_slow",
        "_stream",
        "_writer",
        "is_client",
        "messages_out",
    )

    def __init__(
        self,
        stream: Stream,
        connection: Connection,
        io_thread: IOThread,
        *,
        is_client: bool,
        limits: Limits,
        on_slow: Callable[[Any], None] | None,
    ) -> None:
        #: Whether this is the client side, whose frames are masked.
        self.is_client = is_client
        #: The number of messages that were accepted for sending.
        self.messages_out = 0
        self._stream = stream
        self._writer = stream.writer
        self._io_thread = io_thread
        self._limits = limits
        self._on_slow = on_slow
        #: Guards wsproto's state and the fields below. Frames are encoded and queued
        #: under it, so that they are queued in the order in which wsproto encodes
        #: them. Before the stream's lock in the lock order.
        self._lock = threading.Lock()
        self._connection = connection
        self._close_sent = False
        #: No further message will arrive.
        self._ended = False
        self._slow = False
        #: When the heartbeat last sent a ping, on the monotonic clock.
        self._pinged_at = 0.0
        self._close_code: int | None = None
        self._close_reason = ""
        self._pings: dict[bytes, tuple[Future[float], float]] | None = None
        stream.writer.on_stall = self._stalled

    def __repr__(self) -> str:
        side = "client" if self.is_client else "server"
        state = self._connection.state.name.lower()
        return f"<WebSocket {side} side, {format_address(self.remote_address)}, {state}>"

    @property
    def remote_address(self) -> Address:
        """The peer's host and port; for a trusted proxy, those of its client."""
        return self._stream.address

    @property
    def backlog_size(self) -> int:
        """Bytes that were sent and wait until the peer takes them."""
        return self._writer.backlog_size

    @property
    def close_code(self) -> int | None:
        """The close code, None while the connection is open.

        It is the code of the peer's Close. If this end failed the connection, it is
        the code that this end sent (1002, 1007, 1009, 1013). It is 1005 for a Close
        without a code, and 1006 if the connection ended without a Close (RFC 6455,
        section 7.1.5).
        """
        return self._close_code

    @property
    def close_reason(self) -> str | None:
        """The text that came with the close code, None while the connection is open."""
        return None if self._close_code is None else self._close_reason

    # Sending.

    def send(self, message: Message) -> None:
        """Send a text (``str``) or binary (``bytes``) message; never blocks.

        Data that the network does not accept at once is queued. If too much is
        queued, the connection is closed with 1013. Raises :class:`ConnectionClosed`
        if the message cannot be sent any more, :class:`UnicodeEncodeError` for a
        lone surrogate, and :class:`TypeError` for a message that is neither text
        nor bytes.
        """
        self.act_on(self.offer(message))

    def offer(self, message: Message) -> Written:
        """Send ``message`` without handling the result, which :meth:`act_on` does.

        For a caller that holds a lock under which no callback may run.
        """
        written = self._offer_event(event_of(message))
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

        ``frames`` are complete, unmasked frames, so only the server side may call
        it; ``messages`` is the number of messages in them. False: the connection
        accepts no more.
        """
        # Does not take _lock: a fan-out must not wait for a thread that parses.
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

        For a sender that prefers waiting to a long backlog. ``timeout`` is in
        seconds, None without limit. Raises :class:`TimeoutError`.
        """
        if not self._writer.wait_flushed(Deadline.after(timeout)):
            raise TimeoutError("the peer did not read the data in time")

    def ping(self, payload: bytes = b"") -> Future[float]:
        """Send a ping with a payload of at most 125 bytes; never blocks.

        The result of the future is the round-trip time in seconds. It is set only
        while a thread receives. If no pong can arrive any more, the future, or this
        method, raises :class:`ConnectionClosed`. Raises :class:`ValueError` for a
        longer payload.
        """
        if len(payload) > 125:
            raise ValueError("a ping can carry at most 125 bytes")
        pong: Future[float] = Future()
        with self._lock:
            if self._pings is None:
                self._pings = {}
            while not payload or payload in self._pings:
                payload = os.urandom(4)
            self._pings[payload] = (pong, time.monotonic())
        self.act_on(self._offer_event(Ping(payload=payload)))
        return pong

    def _send_heartbeat(self) -> None:
        """Ping the peer without waiting for the pong."""
        if not self.is_client:
            self.write_frames(_PING, 0)
        elif self._offer_event(Ping()) is _OVERFLOW:
            self._too_slow()

    def _offer_event(self, event: Event) -> Written:
        with self._lock:
            if self._close_sent or self._ended:
                return _REFUSED
            encoder = self._connection
            if encoder.state is not _OPEN:
                # The peer's Close is parsed, but not answered yet. wsproto refuses
                # to send messages in this state, but the RFC allows it.
                encoder = Connection(_CLIENT if self.is_client else _SERVER)
            return self._writer.write(encoder.send(event))

    def _on_ping(self, event: Ping) -> None:
        with self._lock:
            if self._close_sent:
                return
            written = self._writer.write(self._connection.send(event.response()))
        if written is _OVERFLOW:
            self._too_slow()

    def _on_pong(self, event: Pong) -> None:
        now = time.monotonic()
        answered: list[tuple[Future[float], float]] = []
        with self._lock:
            payload = bytes(event.payload)
            if self._pings and payload in self._pings:
                # RFC 6455, section 5.5.3: the pong may be for the latest ping only.
                for sent in list(self._pings):
                    answered.append(self._pings.pop(sent))
                    if sent == payload:
                        break
        for pong, sent_at in answered:
            if pong.set_running_or_notify_cancel():
                pong.set_result(now - sent_at)

    # Closing.

    def begin_close(
        self, code: int, reason: str, deadline: Deadline, *, discard: bool = False
    ) -> None:
        """Send Close; abort the connection if it is not closed at ``deadline``. Never blocks.

        You can still receive the messages that the peer sent before its own Close;
        then the receiving call reports the end of the connection. With
        ``discard``, data that is queued for the peer is dropped.
        """
        check_close(code, reason)
        self._send_close(code, reason, discard=discard)
        if deadline.remaining() is not None:
            self._io_thread.call_at(deadline, self._writer.abort)

    def abort(self) -> None:
        """End the connection without a closing handshake. Never blocks."""
        self._writer.abort()

    def _send_close(self, code: int, reason: str, *, discard: bool = False) -> bool:
        """Send Close. False: a Close was sent before, or the connection has ended."""
        with self._lock:
            if self._close_sent or self._ended:
                return False
            self._close_sent = True
            close = self._connection.send(CloseConnection(code=code, reason=reason))
            self._writer.seal(close, discard=discard)
            return True

    def _end(self, code: int, reason: str) -> None:
        """Record that no further message will arrive. The first code recorded is kept."""
        with self._lock:
            self._ended = True
            if self._close_code is None:
                self._close_code, self._close_reason = code, reason
            pings, self._pings = self._pings, None
        for pong, _ in (pings or {}).values():
            if pong.set_running_or_notify_cancel():
                pong.set_exception(self._closed())

    def _note_end(self, reason: str) -> None:
        """Record the reason before an abort: the reader sees only the end of the stream."""
        with self._lock:
            if self._close_code is None:
                self._close_code, self._close_reason = ABNORMAL, reason

    def _closed(self) -> ConnectionClosed:
        code = self._close_code
        return ConnectionClosed(ABNORMAL if code is None else code, self._close_reason)

    # Slow consumers.

    def _too_slow(self) -> None:
        """Handle a full backlog: send 1013 after the current frame, and abort at a deadline."""
        if self._note_slow("too slow: the backlog is full"):
            deadline = Deadline.after(self._limits.close_timeout)
            self.begin_close(TRY_AGAIN_LATER, self._close_reason, deadline, discard=True)
            self._say_slow()

    def _stalled(self) -> None:
        """Handle a stall: abort, because a Close cannot be sent either. On the I/O thread."""
        slow = self._note_slow("too slow: the backlog made no progress")
        self._writer.abort()
        if slow:
            self._say_slow()

    def _note_slow(self, reason: str) -> bool:
        with self._lock:
            if self._slow or self._ended:
                return False
            self._slow = True
            if self._close_code is None:
                self._close_code, self._close_reason = TRY_AGAIN_LATER, reason
            return True

    def _say_slow(self) -> None:
        if self._on_slow is not None:
            self._on_slow(self)
