"""A WebSocket over a stream, client side or server side, based on wsproto (RFC 6455)."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from math import inf
from typing import Any, Self

from wsproto.connection import ConnectionState
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage

from ..closecodes import ABNORMAL, INVALID_DATA, NORMAL, ORDERLY, TOO_BIG, check_close
from ..errors import ConnectionClosed
from .deadline import Deadline
from .frame_parser import FrameParser
from .handshake import HandshakeResult
from .http import Request
from .io_thread import IOThread
from .limits import Limits
from .messages import Assembler, Message, MessageTooBig
from .rate_limit import TokenBucket
from .sender import Sender
from .stream import Stream

__all__ = ["WebSocket"]

_OPEN, _LOCAL_CLOSING = ConnectionState.OPEN, ConnectionState.LOCAL_CLOSING

#: Bytes that a peer may still send after the closing handshake.
_LINGER_BYTES = 16 * 1024 * 1024


class WebSocket(Sender):
    """One end of an open WebSocket connection.

    ``send``, ``ping``, ``close``, ``begin_close`` and ``abort`` may be called
    from any thread. So may ``recv``; threads that receive at the same time
    take turns. Pings are answered, and the peer's Close is handled, only while
    a thread is in ``recv``, ``recv_many`` or an iteration.

    Created by :func:`syncchat.net.serve` and :func:`syncchat.net.connect`.
    """

    __slots__ = (
        "_assembler",
        "_bucket",
        "_deferred",
        "_events",
        "_frame_parser",
        "_messages",
        "_paused_until",
        "_recv_lock",
        "_resumed_at",
        "messages_in",
        "request",
        "response_headers",
        "subprotocol",
    )

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
        super().__init__(
            stream,
            opening.connection,
            io_thread,
            is_client=is_client,
            limits=limits,
            on_slow=on_slow,
        )
        #: The handshake request: ``path``, ``query``, ``headers``.
        self.request: Request = opening.request
        #: The negotiated subprotocol, or None.
        self.subprotocol: str | None = opening.subprotocol
        #: On the client's side, the headers of the server's answer except those of the
        #: handshake itself, by lower-case names.
        self.response_headers: Mapping[str, str] = opening.response_headers
        #: The number of complete messages that have arrived.
        self.messages_in = 0
        #: Held by the one thread that reads; guards the fields below. Before
        #: ``_lock`` in the lock order. Reentrant: the reading thread runs the
        #: callbacks of a ping's future, and a callback may call close().
        self._recv_lock = threading.RLock()
        self._messages: deque[Message] = deque()
        self._frame_parser = FrameParser(is_client=is_client, max_message=limits.max_message)
        #: wsproto's events for the bytes that it has received. None: it needs more.
        self._events: Iterator[Event] | None = None
        self._assembler = Assembler(limits.max_message, limits.max_fragments)
        self._bucket = TokenBucket(limits.rate, limits.burst) if limits.rate else None
        #: The rate limit allows no further frame before this moment, on the
        #: monotonic clock. 0.0: there is no pause.
        self._paused_until = 0.0
        #: When the last such pause ended.
        self._resumed_at = 0.0
        #: Ends the connection after the peer's Close or protocol violation. It is
        #: called after all earlier messages are handed out.
        self._deferred: Callable[[], None] | None = None
        # Frames may have arrived in one packet with the handshake.
        self._frame_parser.feed(opening.rest)
        self._process()

    @property
    def closing(self) -> bool:
        """Whether the peer's Close or violation waits until earlier messages are received."""
        return self._deferred is not None

    @property
    def heard_at(self) -> float:
        """When the last bytes from the peer were read, in seconds on the monotonic clock.

        From any thread. Bytes are read only while a thread is in ``recv``,
        ``recv_many`` or an iteration.
        """
        return self._stream.heard_at

    # Receiving.

    def recv(self, timeout: float | None = None) -> Message:
        """Return the next message, a ``str`` for text and ``bytes`` for binary.

        Waits at most ``timeout`` seconds, without limit by default. Raises
        :class:`TimeoutError`, which leaves the connection usable, and
        :class:`ConnectionClosed` when all messages are received and no more can
        arrive.
        """
        self._take_turn(timeout)
        try:
            return self._messages.popleft()
        finally:
            self._recv_lock.release()

    def recv_many(self, timeout: float | None = None) -> list[Message]:
        """Return all messages that have arrived, at least one.

        Works as :meth:`recv`, but faster if many messages arrive at a time.
        """
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

    # Closing, and the heartbeat.

    def close(self, code: int = NORMAL, reason: str = "", timeout: float | None = None) -> None:
        """Do the closing handshake and close the socket.

        Takes at most ``timeout`` seconds, by default the connection's
        ``close_timeout``; then the connection is aborted. Messages that still
        arrive are dropped. Has no effect on a closed connection. Raises
        :class:`ValueError` for a code that may not be sent (RFC 6455, section 7.4)
        or a reason of more than 123 bytes.
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
                while not self._ended and not deadline.expired:
                    self._messages.clear()
                    self._advance(deadline)
            self._stream.drain_input(deadline, _LINGER_BYTES)
            self._writer.close()
            self._end(ABNORMAL, "")
        finally:
            self._recv_lock.release()
        if self.is_client:
            self._io_thread.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def beat(self, interval: float, timeout: float) -> None:
        """Do one step of the heartbeat: ping a silent peer, abort one that stays silent.

        Runs on the I/O thread; never blocks.
        """
        heard_at = self._stream.heard_at
        silence = time.monotonic() - heard_at
        if self._ended or silence < interval:
            return
        # After a pause of the rate limit, frames are parsed that arrived before it.
        # So the end of the pause counts as a sign of life.
        alive_at = max(heard_at, self._resumed_at)
        overdue = time.monotonic() - alive_at >= interval + timeout and self._pinged_at > alive_at
        # Unread input is a sign of life, too: the peer sends, but no thread receives.
        if overdue and not self._writer.has_input():
            self._note_end("no response")
            self._writer.abort()
        elif time.monotonic() - self._pinged_at >= interval:
            # Repeat the ping in each interval: if the rate limit slows reading
            # down, this end answers the peer's pings late, and only its own pings
            # show the peer that it is alive.
            self._pinged_at = time.monotonic()
            self._send_heartbeat()

    # The reading side. The caller holds _recv_lock.

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
                if self._ended:
                    raise self._closed()
                self._advance(deadline)
                if deadline is not None and deadline.expired and not self._has_news():
                    # The peer keeps sending, but does not complete a message.
                    raise TimeoutError("no message arrived in time")
        except BaseException:
            self._recv_lock.release()
            raise

    def _has_news(self) -> bool:
        return self._ended or bool(self._messages)

    def _advance(self, deadline: Deadline | None) -> None:
        """Do the next step: end the connection, pause, or read. Raises :class:`TimeoutError`."""
        if self._deferred is not None:
            end, self._deferred = self._deferred, None
            end()
            return
        if self._paused_until:
            self._pause(deadline)
            self._process()
            return
        data = self._stream.read(deadline)
        if data:
            self._frame_parser.feed(data)
            self._process()
        else:
            self._end(ABNORMAL, str(self._writer.error or ""))

    def _pause(self, deadline: Deadline | None) -> None:
        """Wait as long as the rate limit demands. Raises :class:`TimeoutError`."""
        end = Deadline(min(self._paused_until, deadline.at if deadline else inf))
        if not self._writer.wait_broken(end) and end.at < self._paused_until:
            raise TimeoutError("the rate limit allows no message in time")
        self._paused_until = 0.0
        self._resumed_at = time.monotonic()

    def _process(self) -> None:
        """Parse the bytes that have arrived, until all are parsed or the rate limit is reached."""
        while not self._ended:
            if self._events is None:
                message = self._frame_parser.next_message()
                if message is not None:
                    self.messages_in += 1
                    self._messages.append(message)
                    if self._bucket is not None and self._must_wait(self._bucket):
                        return
                    continue
                piece = self._frame_parser.next_piece()
                if not piece:
                    return
                self._connection.receive_data(piece)
                self._events = self._connection.events()
            # A step may change wsproto's state, which send() checks. The lock is
            # held for one step only, so that a sender waits for the parsing of at
            # most one frame.
            with self._lock:
                event = next(self._events, None)
            if event is None:
                self._events = None
                continue
            _HANDLERS[type(event)](self, event)
            if self._deferred is not None:
                return
            if (
                self._bucket is not None
                and getattr(event, "frame_finished", True)
                and self._must_wait(self._bucket)
            ):
                return

    def _must_wait(self, bucket: TokenBucket) -> bool:
        """Charge the rate limit for a frame. True: the next frame must wait."""
        moment = bucket.charge()
        if moment <= time.monotonic():
            return False
        self._paused_until = moment
        return True

    def _on_message(self, event: TextMessage | BytesMessage) -> None:
        try:
            message = self._assembler.add(event)
        except MessageTooBig:
            limits = self._limits
            reason = (
                f"a message can have at most {limits.max_message} bytes"
                f" and {limits.max_fragments} fragments"
            )
            self._conclude(partial(self._fail, TOO_BIG, reason))
        else:
            if message is not None:
                self.messages_in += 1
                self._messages.append(message)

    def _on_close(self, event: CloseConnection) -> None:
        self._conclude(partial(self._answer_close, event))

    def _conclude(self, end: Callable[[], None]) -> None:
        """Call ``end`` now, or after the remaining messages are handed out."""
        if self._messages:
            self._deferred = end
        else:
            end()

    def _answer_close(self, event: CloseConnection) -> None:
        with self._lock:
            # In these states the peer has not sent a Close. The event means that
            # wsproto has found a protocol violation and parses no more.
            violation = self._connection.state in (_OPEN, _LOCAL_CLOSING)
            if not violation and not self._close_sent:
                self._close_sent = True
                self._writer.seal(self._connection.send(event.response()))
        if violation:
            self._fail(int(event.code), _reason_for(int(event.code), event.reason or ""))
        else:
            self._end(int(event.code), event.reason or "")

    def _fail(self, code: int, reason: str) -> None:
        """Fail the connection after the peer's violation of a rule (RFC 6455, section 7.1.7)."""
        if self._send_close(code, reason):
            self._end(code, reason)
        else:
            self._end(ABNORMAL, "")


def _reason_for(code: int, said: str) -> str:
    """The close reason for a violation; ``said`` is the reason that wsproto gives.

    It is wsproto's text, except where that text comes from Python's codecs or
    holds the ``repr`` of an object.
    """
    if code == INVALID_DATA:
        where = "a close reason" if "CLOSE" in said else "a text message"
        return f"invalid UTF-8 in {where}"
    if said.startswith("expected CONTINUATION"):
        return "a message began inside another one"
    return said


_HANDLERS: dict[type[Event], Callable[[WebSocket, Any], None]] = {
    TextMessage: WebSocket._on_message,  # noqa: SLF001
    BytesMessage: WebSocket._on_message,  # noqa: SLF001
    Ping: WebSocket._on_ping,  # noqa: SLF001
    Pong: WebSocket._on_pong,  # noqa: SLF001
    CloseConnection: WebSocket._on_close,  # noqa: SLF001
}
