"""One WebSocket over a stream, either side of it, driven through wsproto (RFC 6455)."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from math import inf
from typing import Any, Self

from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage

from ..closecodes import ABNORMAL, NORMAL, ORDERLY, TOO_BIG, TRY_AGAIN_LATER, check_close
from ..errors import ConnectionClosed
from .address import Address, format_address
from .deadline import Deadline
from .flood import TokenBucket
from .flusher import Flusher
from .handshake import Opening, Request
from .limits import Limits
from .messages import Assembler, Message, MessageTooBig, event_of
from .stream import Stream, Written

__all__ = ["WebSocket"]

# An enumeration's members are looked up slowly, and these once a write.
_ACCEPTED, _REFUSED, _OVERFLOW = Written.ACCEPTED, Written.REFUSED, Written.OVERFLOW
_OPEN, _LOCAL_CLOSING = ConnectionState.OPEN, ConnectionState.LOCAL_CLOSING
_CLIENT, _SERVER = ConnectionType.CLIENT, ConnectionType.SERVER

#: Bytes that a peer may still send behind the closing handshake.
_LINGER_BYTES = 16 * 1024 * 1024


#: The heartbeat's ping, the same bytes for every client.
_PING = bytes(Connection(_SERVER).send(Ping()))


class WebSocket:
    """One end of an open WebSocket connection.

    ``send``, ``ping``, ``close``, ``begin_close`` and ``abort`` may be called
    from any thread. ``recv`` may too; threads that receive at the same time
    take turns. Pings are answered, and the close of the peer noticed, while
    some thread is in ``recv``, ``recv_many`` or an iteration.

    Made by :func:`syncchat.net.serve` and :func:`syncchat.net.connect`.
    """

    __slots__ = (
        "_assembler",
        "_bucket",
        "_close_code",
        "_close_reason",
        "_close_sent",
        "_connection",
        "_deferred",
        "_ended",
        "_flusher",
        "_limits",
        "_lock",
        "_messages",
        "_on_slow",
        "_paused_until",
        "_pinged_at",
        "_pings",
        "_recv_lock",
        "_resumed_at",
        "_slow",
        "_stream",
        "is_client",
        "messages_in",
        "messages_out",
        "request",
        "subprotocol",
    )

    def __init__(
        self,
        stream: Stream,
        opening: Opening,
        flusher: Flusher,
        *,
        is_client: bool,
        limits: Limits,
        on_slow: Callable[[WebSocket], None] | None = None,
    ) -> None:
        #: Whether this is the client's end, whose frames are masked.
        self.is_client = is_client
        #: The handshake request: ``path``, ``query``, ``headers``.
        self.request: Request = opening.request
        #: The subprotocol agreed upon, or None.
        self.subprotocol: str | None = opening.subprotocol
        self._stream = stream
        self._flusher = flusher
        self._limits = limits
        self._on_slow = on_slow
        #: Held by the one thread that reads; guards ``_messages`` and
        #: ``_assembler``. Before ``_lock`` in the lock order, which is before the
        #: stream's. Reentrant: whoever waits for a pong is told by the reader,
        #: and may close then and there.
        self._recv_lock = threading.RLock()
        self._messages: deque[Message] = deque()
        self._assembler = Assembler(limits.max_message, limits.max_fragments)
        self._bucket = TokenBucket(limits.rate, limits.burst) if limits.rate else None
        #: The moment before which no further frame is looked at.
        self._paused_until = 0.0
        #: When the last such pause was over.
        self._resumed_at = 0.0
        #: Messages that have come whole, and that were taken on their way out.
        self.messages_in = 0
        self.messages_out = 0
        #: Guards wsproto's state and the fields below, and keeps what wsproto
        #: encodes in the order in which it is queued.
        self._lock = threading.Lock()
        self._connection = opening.connection
        self._close_sent = False
        #: The peer's Close, or what wsproto makes of a violation, until the
        #: messages ahead of it have been handed out.
        self._deferred: CloseConnection | None = None
        #: No message will come any more.
        self._ended = False
        self._slow = False
        #: When the heartbeat pinged last, on the monotonic clock.
        self._pinged_at = 0.0
        self._close_code: int | None = None
        self._close_reason = ""
        self._pings: dict[bytes, tuple[Future[float], float]] | None = None
        stream.on_stall = self._stalled
        # Frames may have come in one packet with the handshake.
        self._process_events()

    def __repr__(self) -> str:
        side = "client" if self.is_client else "server"
        state = self._connection.state.name.lower()
        return f"<WebSocket {side} side, {format_address(self.remote_address)}, {state}>"

    @property
    def remote_address(self) -> Address:
        """The peer's host and port."""
        return self._stream.address

    @property
    def closing(self) -> bool:
        """Whether the peer's Close has come, and is answered by the next ``recv``."""
        return self._deferred is not None

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

    # Receiving.

    def recv(self, timeout: float | None = None) -> Message:
        """The next message, a ``str`` for text and ``bytes`` for binary.

        Waits ``timeout`` seconds at most, for ever by default. Raises
        :class:`TimeoutError`, after which the connection is as it was, and
        :class:`ConnectionClosed` once every message has been handed out and no
        more will come.
        """
        self._take_turn(timeout)
        try:
            return self._messages.popleft()
        finally:
            self._recv_lock.release()

    def recv_many(self, timeout: float | None = None) -> list[Message]:
        """The next messages, one at least: all that have arrived.

        As :meth:`recv`, with less work a message where many come at once.
        """
        self._take_turn(timeout)
        try:
            messages = list(self._messages)
            self._messages.clear()
            return messages
        finally:
            self._recv_lock.release()

    def __iter__(self) -> Iterator[Message]:
        """Every message until the connection is closed.

        Ends with the codes 1000, 1001 and 1005; any other raises
        :class:`ConnectionClosed`.
        """
        while True:
            try:
                message = self.recv()
            except ConnectionClosed as exc:
                if exc.code in ORDERLY:
                    return
                raise
            yield message

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
        event, _ = event_of(message)
        written = self._offer_event(event)
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

    # Closing.

    def close(self, code: int = NORMAL, reason: str = "", timeout: float | None = None) -> None:
        """Do the closing handshake and give the socket back.

        Takes ``timeout`` seconds at most, by default the connection's
        ``close_timeout``; a peer that has not answered by then is cut off.
        Messages that still arrive are dropped. A closed connection stays as it
        is. Raises :class:`ValueError` for a code that may not be sent (RFC
        6455, section 7.4) or a reason of more than 123 bytes.
        """
        check_close(code, reason)
        deadline = Deadline.after(self._limits.close_timeout if timeout is None else timeout)
        self._send_close(code, reason)
        if not self._recv_lock.acquire(timeout=deadline.for_lock()):
            # Another thread reads, and waits for a Close that does not come.
            self._stream.abort()
            self._recv_lock.acquire()
        try:
            with contextlib.suppress(TimeoutError):
                while not self._ended and not deadline.expired:
                    self._messages.clear()
                    self._advance(deadline)
            self._stream.drain_input(deadline, _LINGER_BYTES)
            self._stream.close()
            self._end(ABNORMAL, "")
        finally:
            self._recv_lock.release()
        if self.is_client:
            self._flusher.stop()

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
            self._flusher.call_at(deadline, self._stream.abort)

    def abort(self) -> None:
        """Cut the connection off, without a closing handshake. Never blocks."""
        self._stream.abort()

    def beat(self, interval: float, timeout: float) -> None:
        """A beat of the heartbeat: ping a silent peer, give up one that stays silent.

        On the flusher; never blocks.
        """
        heard_at = self._stream.heard_at
        silence = time.monotonic() - heard_at
        if self._ended or silence < interval:
            return
        # What a flooder sent long ago and is read only now counts as well.
        alive_at = max(heard_at, self._resumed_at)
        overdue = time.monotonic() - alive_at >= interval + timeout and self._pinged_at > alive_at
        # Unread input is a sign of life, too: nobody is receiving here.
        if overdue and not self._stream.has_input():
            self._note_end("no sign of life")
            self._stream.abort()
        elif time.monotonic() - self._pinged_at >= interval:
            # Again and again: where this end reads a flooder slowly, its own
            # pings are what keeps the flooder from giving up.
            self._pinged_at = time.monotonic()
            if not self.is_client:
                self.write_frames(_PING, 0)
            elif self._offer_event(Ping()) is _OVERFLOW:
                self._too_slow()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    # The reading side. The caller holds _recv_lock.

    def _take_turn(self, timeout: float | None) -> None:
        """Return with _recv_lock held and a message there; raise without."""
        deadline = None
        if timeout is None:
            self._recv_lock.acquire()
        else:
            deadline = Deadline.after(timeout)
            if not self._recv_lock.acquire(timeout=deadline.for_lock()):
                raise TimeoutError("no message arrived in time")
        try:
            while not self._messages:
                if self._ended:
                    raise self._closed()
                self._advance(deadline)
                if deadline is not None and deadline.expired and not self._has_news():
                    # A peer that always has something to say, but no message.
                    raise TimeoutError("no message arrived in time")
        except BaseException:
            self._recv_lock.release()
            raise

    def _has_news(self) -> bool:
        return self._ended or bool(self._messages)

    def _advance(self, deadline: Deadline | None) -> None:
        """Take the next step of the conversation. Raises :class:`TimeoutError`."""
        if self._deferred is not None:
            self._on_close(self._deferred)
            return
        if self._paused_until:
            self._pause(deadline)
            self._process_events()
            return
        data = self._stream.read(deadline)
        if data:
            self._connection.receive_data(data)
            self._process_events()
        else:
            self._end(ABNORMAL, str(self._stream.error or ""))

    def _pause(self, deadline: Deadline | None) -> None:
        """Let a flooder wait for its turn. Raises :class:`TimeoutError`."""
        end = Deadline(min(self._paused_until, deadline.at if deadline else inf))
        if not self._stream.wait_broken(end) and end.at < self._paused_until:
            raise TimeoutError("no message may be read in time")
        self._paused_until = 0.0
        self._resumed_at = time.monotonic()

    def _process_events(self) -> None:
        events = self._connection.events()
        while not self._ended:
            # Each step for itself, so that a sender waits for one frame's
            # parsing at most: a step may change the state that send() checks.
            with self._lock:
                event = next(events, None)
            if event is None:
                return
            if isinstance(event, CloseConnection) and self._messages:
                self._deferred = event
                return
            _HANDLERS[type(event)](self, event)
            if self._bucket is not None and getattr(event, "frame_finished", True):
                moment = self._bucket.charge()
                if moment > time.monotonic():
                    self._paused_until = moment
                    return

    def _on_message(self, event: TextMessage | BytesMessage) -> None:
        try:
            message = self._assembler.add(event)
        except MessageTooBig:
            limits = self._limits
            self._fail(
                TOO_BIG,
                f"a message takes at most {limits.max_message} bytes"
                f" in {limits.max_fragments} fragments",
            )
        else:
            if message is not None:
                self.messages_in += 1
                self._messages.append(message)

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

    def _on_close(self, event: CloseConnection) -> None:
        with self._lock:
            # Where the state says that nobody has closed, or only we, this is
            # no Close of the peer's but wsproto's word that it parses no more.
            violation = self._connection.state in (_OPEN, _LOCAL_CLOSING)
            if not violation and not self._close_sent:
                self._close_sent = True
                self._stream.seal(self._connection.send(event.response()))
        if violation:
            self._fail(int(event.code), event.reason or "")
        else:
            self._end(int(event.code), event.reason or "")

    # The end.

    def _fail(self, code: int, reason: str) -> None:
        """The peer broke the rules: say so, and hear no more (RFC 6455, section 7.1.7)."""
        if self._send_close(code, reason):
            self._end(code, reason)
        else:
            self._end(ABNORMAL, "")

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


_HANDLERS: dict[type[Event], Callable[[WebSocket, Any], None]] = {
    TextMessage: WebSocket._on_message,  # noqa: SLF001
    BytesMessage: WebSocket._on_message,  # noqa: SLF001
    Ping: WebSocket._on_ping,  # noqa: SLF001
    Pong: WebSocket._on_pong,  # noqa: SLF001
    CloseConnection: WebSocket._on_close,  # noqa: SLF001
}
