"""The sending half of a WebSocket, and how it ends: from any thread, and it never blocks."""

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
from .deadline import Deadline
from .io_thread import IOThread
from .limits import Limits
from .messages import Message, event_of
from .outlet import Written
from .stream import Stream

__all__ = ["Sender"]

# An enumeration's members are looked up slowly, and these once a write.
_ACCEPTED, _REFUSED, _OVERFLOW = Written.ACCEPTED, Written.REFUSED, Written.OVERFLOW
_OPEN = ConnectionState.OPEN
_CLIENT, _SERVER = ConnectionType.CLIENT, ConnectionType.SERVER

#: The heartbeat's ping, the same bytes for every client.
_PING = bytes(Connection(_SERVER).send(Ping()))


class Sender:
    """What of a WebSocket any thread may use at any time.

    Everything but ``flush`` returns without waiting for the peer.
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
        #: Whether this is the client's end, whose frames are masked.
        self.is_client = is_client
        #: Messages that were taken on their way out.
        self.messages_out = 0
        self._stream = stream
        self._io_thread = io_thread
        self._limits = limits
        self._on_slow = on_slow
        #: Guards wsproto's state and the fields below, and keeps what wsproto
        #: encodes in the order in which it is queued. Before the stream's lock
        #: in the lock order.
        self._lock = threading.Lock()
        self._connection = connection
        self._close_sent = False
        #: No message will come any more.
        self._ended = False
        self._slow = False
        #: When the heartbeat pinged last, on the monotonic clock.
        self._pinged_at = 0.0
        self._close_code: int | None = None
        self._close_reason = ""
        self._pings: dict[bytes, tuple[Future[float], float]] | None = None
        stream.on_stall = self._stalled

    def __repr__(self) -> str:
        side = "client" if self.is_client else "server"
        state = self._connection.state.name.lower()
        return f"<WebSocket {side} side, {format_address(self.remote_address)}, {state}>"

    @property
    def remote_address(self) -> Address:
        """The peer's host and port; where that is a trusted proxy, those of its client."""
        return self._stream.address

    @property
    def close_code(self) -> int | None:
        """The close code, None while the connection is open.

        The code of the peer's Close; where this end failed the connection, the
        code that it sent (1002, 1007, 1009, 1013); 1005 for a Close without a
        code; 1006 where the connection ended without a Close (RFC 6455, 7.1.5).
        """
        return self._close_code

    @property
    def close_reason(self) -> str | None:
        """The text that came with the close code, None while the connection is open."""
        return None if self._close_code is None else self._close_reason

    # Sending.

    def send(self, message: Message) -> None:
        """Send a text (``str``) or binary (``bytes``) message; never blocks.

        What the network does not take at once is queued. A peer with too much
        queued is closed with 1013. Raises :class:`ConnectionClosed` where the
        message cannot go out any more, :class:`UnicodeEncodeError` for a lone
        surrogate, :class:`TypeError` for what is neither text nor bytes.
        """
        self.act_on(self.offer(message))

    def offer(self, message: Message) -> Written:
        """Send ``message``, and leave what follows from a refusal to :meth:`act_on`.

        For a caller that holds a lock under which nobody may be called back.
        """
        written = self._offer_event(event_of(message))
        if written is _ACCEPTED:
            self.messages_out += 1
        return written

    def act_on(self, written: Written) -> None:
        """Close a slow consumer, and raise :class:`ConnectionClosed` for what was not accepted."""
        if written is not _ACCEPTED:
            if written is _OVERFLOW:
                self._too_slow()
            raise self._closed()

    def write_frames(self, frames: bytes, messages: int) -> bool:
        """Send frames that are encoded already; never blocks. For :class:`Group`.

        ``frames`` are whole, unmasked frames, so this is for the server's end;
        ``messages`` says how many there are. False: the connection takes no more.
        """
        # Past _lock on purpose: a fan-out must not wait for whoever is parsing.
        # A Close seals the stream, so that no frame can follow it.
        written = self._stream.write(frames)
        if written is _ACCEPTED:
            self.messages_out += messages
            return True
        if written is _OVERFLOW:
            self._too_slow()
        return False

    def flush(self, timeout: float | None = None) -> None:
        """Block until the network has taken all that was sent.

        For a sender that would rather wait than be a burden. Raises
        :class:`TimeoutError`.
        """
        if not self._stream.wait_flushed(Deadline.after(timeout)):
            raise TimeoutError("the peer did not take what was sent in time")

    def ping(self, payload: bytes = b"") -> Future[float]:
        """Send a ping, of at most 125 bytes; never blocks.

        The result of the future is the round trip in seconds; it comes while
        some thread receives. :class:`ConnectionClosed` if no pong can come.
        """
        if len(payload) > 125:
            raise ValueError("a ping carries at most 125 bytes")
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
        """Ping a silent peer, without waiting for the pong."""
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
                # The peer's Close is parsed, but not answered yet, and
                # wsproto lets no message pass any more; the RFC does.
                encoder = Connection(_CLIENT if self.is_client else _SERVER)
            return self._stream.write(encoder.send(event))

    def _on_ping(self, event: Ping) -> None:
        with self._lock:
            if self._close_sent:
                return
            written = self._stream.write(self._connection.send(event.response()))
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

    # The end.

    def begin_close(
        self, code: int, reason: str, deadline: Deadline, *, discard: bool = False
    ) -> None:
        """Send Close; cut the connection off if it is not over at ``deadline``. Never blocks.

        Messages that the peer sent before its own Close can still be received,
        and whoever receives sees the end. With ``discard``, what is queued for
        the peer is dropped.
        """
        check_close(code, reason)
        self._send_close(code, reason, discard=discard)
        if deadline.remaining() is not None:
            self._io_thread.call_at(deadline, self._stream.abort)

    def abort(self) -> None:
        """Cut the connection off, without a closing handshake. Never blocks."""
        self._stream.abort()

    def _send_close(self, code: int, reason: str, *, discard: bool = False) -> bool:
        """Send Close, unless one was sent."""
        with self._lock:
            if self._close_sent or self._ended:
                return False
            self._close_sent = True
            close = self._connection.send(CloseConnection(code=code, reason=reason))
            self._stream.seal(close, discard=discard)
            return True

    def _end(self, code: int, reason: str) -> None:
        """No message comes any more. The first call decides why."""
        with self._lock:
            self._ended = True
            if self._close_code is None:
                self._close_code, self._close_reason = code, reason
            pings, self._pings = self._pings, None
        for pong, _ in (pings or {}).values():
            if pong.set_running_or_notify_cancel():
                pong.set_exception(self._closed())

    def _note_end(self, reason: str) -> None:
        """Say why before the stream is aborted, which is all that the reader sees."""
        with self._lock:
            if self._close_code is None:
                self._close_code, self._close_reason = ABNORMAL, reason

    def _closed(self) -> ConnectionClosed:
        code = self._close_code
        return ConnectionClosed(ABNORMAL if code is None else code, self._close_reason)

    # Slow consumers.

    def _too_slow(self) -> None:
        """The backlog is full: 1013 behind the frame that is on its way, and time to take it."""
        if self._note_slow("too slow: the backlog is full"):
            deadline = Deadline.after(self._limits.close_timeout)
            self.begin_close(TRY_AGAIN_LATER, self._close_reason, deadline, discard=True)
            self._say_slow()

    def _stalled(self) -> None:
        """The backlog stands still: not even a Close would get out. On the flusher."""
        slow = self._note_slow("too slow: the backlog did not move")
        self._stream.abort()
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
