"""The client's connection: opens it, renews it after a break, and keeps the state across breaks."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from ..chat import events
from ..closecodes import ABNORMAL, NORMAL
from ..errors import ConnectionClosed, NotConnected
from ..net import Deadline, WebSocket
from .events import Disconnected, Event, Reconnected
from .inbox import Inbox
from .outbox import Item
from .protocol import Protocol
from .pulse import Pulse
from .reconnect import delays, is_final, wait

__all__ = ["Dial", "Link"]

_NOT_BACK = "closed before it had come back"
_CLOSED_MEANWHILE = "the client was closed while it connected"
_NO_CONNECTION = "there is no connection at the moment"

#: Seconds that :meth:`Link.close` may take by default. The reserve for joining the
#: thread after the connection is cut: a share of the timeout, and the most seconds.
_CLOSE_TIMEOUT = 10.0
_SHARE, _MOST = 0.1, 0.25

#: Opens a connection. The arguments are the nick to ask for; the URL's room and the
#: room to return to; the position there; and an event that ends the attempt when it is
#: set.
Dial = Callable[[str | None, tuple[str, str] | None, str | None, threading.Event], WebSocket]


class Link:
    """Reads on a background thread from :meth:`open` to :meth:`close`.

    Any thread may call every method.
    """

    def __init__(self, dial: Dial, protocol: Protocol, *, reconnect: bool) -> None:
        self._dial = dial
        self._reconnect = reconnect
        self._inbox = Inbox()
        #: Guards everything below, including the protocol. Taken before the WebSocket's
        #: locks and the inbox's lock in the lock order.
        self._lock = threading.Lock()
        #: Notified when an item is acknowledged, or sent to a server of plain lines,
        #: and at the end.
        self._changed = threading.Condition(self._lock)
        self._protocol = protocol
        self._closed = False
        self._websocket: WebSocket | None = None
        #: How the connection ended for good; None until then.
        self._end: ConnectionClosed | None = None
        #: When the next attempt to reconnect is due, on the monotonic clock; None if
        #: none is planned.
        self._retry_at: float | None = None
        #: Set to end an attempt to connect, and to prevent further attempts.
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    # The connection.

    def open(self, name: str) -> None:
        """Connect, and start to read on a thread with this name. Raises what dialling raises.

        Also raises :class:`RuntimeError` if the link is open, and :class:`NotConnected`
        if :meth:`close` is called meanwhile.
        """
        if self._thread is not None and self._end is None:
            raise RuntimeError("the client is connected already")
        self.close(None)
        self._stop.clear()
        try:
            websocket = self._connect()
        except OSError as exc:
            if self._stop.is_set():
                raise NotConnected(_CLOSED_MEANWHILE) from exc
            raise
        thread = threading.Thread(target=self._run, args=(websocket,), name=name, daemon=True)
        with self._lock:
            stopped = self._stop.is_set()
            if not stopped:
                self._end = None
                self._closed = False
                self._inbox.open()
                self._begin_locked(websocket)
                self._thread = thread
                thread.start()
        if stopped:
            websocket.close(timeout=0)
            raise NotConnected(_CLOSED_MEANWHILE)

    def begin_close(self) -> None:
        """Send a Close without waiting for the reply. Events that still arrive can be received."""
        self._stop.set()
        self.websocket.begin_close(NORMAL, "", Deadline.after(None))

    def close(self, timeout: float | None) -> None:
        """Close the connection properly and join the thread. No effect on a closed link.

        Takes at most ``timeout`` seconds, by default 10. A thread that the system
        blocks, for example in a DNS lookup, may end later.
        """
        if timeout is None:
            timeout = _CLOSE_TIMEOUT
        deadline = Deadline.after(timeout)
        closing = Deadline(deadline.at - min(_SHARE * timeout, _MOST))
        self._stop.set()
        with self._lock:
            websocket = self._websocket
            self._closed = True
            if self._retry_at is not None:
                # The thread may take a moment to notice, so end the inbox here.
                self._inbox.finish(ConnectionClosed(ABNORMAL, _NOT_BACK))
        self._inbox.close()
        if websocket is not None:
            # The thread goes on reading until the server's Close.
            websocket.begin_close(NORMAL, "", closing)
        if self._thread is not None:
            self._thread.join(deadline.remaining())

    @property
    def opened(self) -> bool:
        """Whether the link is open or reconnecting, and :meth:`close` was not called."""
        return self._thread is not None and not self._closed

    @property
    def websocket(self) -> WebSocket:
        """The current or last connection. Raises :class:`RuntimeError` before the first."""
        if self._websocket is None:
            raise RuntimeError("the client is not connected: call connect(), or use with")
        return self._websocket

    @property
    def end(self) -> ConnectionClosed | None:
        """How the connection ended; None until it has ended for good."""
        return self._end

    @property
    def ready(self) -> bool:
        """Whether messages can be sent right now, as far as the client knows."""
        return self._protocol.ready

    @property
    def plain(self) -> bool | None:
        """Whether the server of this or the last connection speaks plain lines; None: unknown."""
        return self._protocol.dialect.plain

    @property
    def retry_in(self) -> float | None:
        """Seconds to the next attempt to reconnect, 0 during it; None if no attempt is planned."""
        at = self._retry_at
        return None if at is None else max(0.0, at - time.monotonic())

    @property
    def welcome(self) -> events.Welcome | None:
        """The server's last ``welcome``; None if there was none."""
        return None if self.plain else self._protocol.tracker.welcome

    @property
    def nick(self) -> str:
        """The client's nick, as the server last told it; empty if it did not."""
        return "" if self.plain else self._protocol.tracker.nick

    # Sending.

    def post(self, item: Item, deadline: Deadline) -> str | None:
        """Send ``item`` until the server acknowledges it. Returns its nonce.

        In plain lines, sends it once, as fast as the server takes it, and returns None.
        Raises :class:`TimeoutError`, :class:`NotConnected` while a server of plain
        lines is unreachable, :class:`ValueError` for an item that is too long, or the
        end of the connection.
        """
        websocket, protocol = self.websocket, self._protocol
        if self.plain:
            websocket.flush(deadline.remaining())
        with self._lock:
            outbox = protocol.outbox
            self._changed.wait_for(
                lambda: not outbox.full or self._end is not None, deadline.remaining()
            )
            if self._end is not None:
                raise self._end
            if outbox.full:
                raise TimeoutError("too much waits to be acknowledged by the server")
            if self.plain and not protocol.ready:
                raise NotConnected(_NO_CONNECTION)
            nonce = protocol.say(item)
            self._pump_locked()
            return nonce

    def ask(self, text: str) -> None:
        """Send the event ``text`` once. Raises :class:`NotConnected` if it cannot be sent now.

        Also raises :class:`ValueError` for an event that is too long, or the end of the
        connection.
        """
        # Raises RuntimeError before the first connection.
        self.websocket  # noqa: B018
        with self._lock:
            if self.plain and self._end is None:
                raise NotConnected("the server knows plain lines only: send_line() is for them")
            self._protocol.check_size(text)
            self._send_once_locked(text)

    def send_line(self, line: str, deadline: Deadline) -> None:
        """Send ``line`` once to a server of plain lines, after all items posted so far.

        Raises the same exceptions as :meth:`post`.
        """
        self.websocket.flush(deadline.remaining())
        with self._lock:
            self._wait_sent_locked(deadline)
            self._send_once_locked(line)

    def _send_once_locked(self, text: str) -> None:
        if self._end is not None:
            raise self._end
        try:
            if self._protocol.ready:
                self.websocket.send(text)
        except ConnectionClosed:
            # The reader thread is about to notice the loss, too.
            self._protocol.ready = False
        if not self._protocol.ready:
            raise NotConnected(_NO_CONNECTION)

    @property
    def unacknowledged(self) -> int:
        """The number of items that the server has not acknowledged."""
        with self._lock:
            return len(self._protocol.outbox)

    def flush(self, deadline: Deadline) -> None:
        """Block until every item is acknowledged or, in plain lines, taken by the network.

        Raises :class:`TimeoutError`, or the end of the connection.
        """
        with self._lock:
            self._wait_sent_locked(deadline)
            websocket = self.websocket
        if self.plain:
            websocket.flush(deadline.remaining())

    def _wait_sent_locked(self, deadline: Deadline) -> None:
        """Wait until every item is acknowledged or, in plain lines, sent."""
        outbox = self._protocol.outbox
        self._changed.wait_for(lambda: not outbox or self._end is not None, deadline.remaining())
        if outbox:
            raise self._end or TimeoutError("the server has not acknowledged all in time")

    def _pump_locked(self) -> None:
        """Send the items that may be sent now, and wake the waiting threads. Never blocks."""
        self._changed.notify_all()
        while (going := self._protocol.next()) is not None:
            item, text = going
            try:
                self.websocket.send(text)
            except ConnectionClosed:
                # The reader thread is about to notice the loss, too. The item is sent again later.
                self._protocol.ready = False
                return
            told = self._protocol.sent(item)
            if told is not None:
                # Before any answer of the server to this item.
                self._inbox.put(told)

    # Receiving.

    def receive(self, deadline: Deadline) -> Event:
        """Return the next event. Raises :class:`TimeoutError`, or the end after the last event."""
        return self._inbox.receive(deadline)

    def hand(self, new: Sequence[Event]) -> None:
        """Add events that the client itself has made. Waits for room."""
        self._inbox.hand(new)

    # The reader thread.

    def _run(self, first: WebSocket) -> None:
        websocket: WebSocket | None = first
        pauses = delays()
        end = ConnectionClosed(ABNORMAL, "the client has failed")
        try:
            while websocket is not None:
                exc, welcomed = self._listen(websocket)
                websocket.close(timeout=0)
                if self._stop.is_set() or not self._reconnect or is_final(exc):
                    end = exc
                    return
                # Set before the event is handed over: its receiver may look at retry_in at once.
                self._retry_at = time.monotonic()
                self.hand([Disconnected(exc.code, exc.reason)])
                if welcomed:
                    pauses = delays()
                websocket, end = self._come_back(websocket, pauses)
                if websocket is not None:
                    self.hand([Reconnected()])
        finally:
            # Also after an unexpected exception: no thread may go on waiting for this one.
            with self._lock:
                self._retry_at = None
                self._end = end
                self._changed.notify_all()
            self._inbox.finish(end)

    def _connect(self) -> WebSocket:
        return self._dial(*self._protocol.wishes, self._stop)

    def _begin_locked(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        self._protocol.begin(websocket.subprotocol, websocket.response_headers, time.monotonic())
        self._pump_locked()

    def _listen(self, websocket: WebSocket) -> tuple[ConnectionClosed, bool]:
        """Deliver events until the connection ends. Returns the end, and whether it was ready."""
        protocol = self._protocol
        pulse = Pulse(websocket)
        welcomed = False
        try:
            while True:
                with self._lock:
                    due_at, owed = protocol.due_at, protocol.owed
                    if self._stop.is_set():
                        # No ping may follow the Close, and the wait for the Close reply
                        # has a limit anyway.
                        owed = None, 0.0
                    welcomed = welcomed or protocol.ready
                due_at = min(due_at, pulse.check(*owed))
                try:
                    messages = websocket.recv_many(Deadline(due_at).remaining())
                except TimeoutError:
                    messages = []
                self._inbox.hand(self._take(messages), sum(map(len, messages)))
        except ConnectionClosed as exc:
            with self._lock:
                protocol.lose()
            return exc, welcomed

    def _take(self, messages: Sequence[str | bytes]) -> list[Event]:
        """Return the events for these messages, and note the time that has passed."""
        protocol = self._protocol
        with self._lock:
            told = [event for message in messages for event in protocol.read(message)]
            request = protocol.pass_time(time.monotonic())
            if request is not None:
                # A lost connection shows at the next read.
                with contextlib.suppress(ConnectionClosed):
                    self.websocket.send(request)
            self._pump_locked()
        return told

    def _come_back(
        self, lost: WebSocket, pauses: Iterator[float]
    ) -> tuple[WebSocket | None, ConnectionClosed]:
        """Reconnect. Returns the new connection, or None and the end to report."""
        over = ConnectionClosed(ABNORMAL, _NOT_BACK)
        for seconds in pauses:
            self._retry_at = time.monotonic() + seconds
            if not wait(seconds, lost.remote_address, self._stop):
                break
            try:
                websocket = self._connect()
            except (OSError, RuntimeError) as exc:
                # The server or the network is unreachable, or this process has no
                # descriptors or threads left.
                if is_final(exc):
                    return None, ConnectionClosed(ABNORMAL, str(exc))
                continue
            with self._lock:
                if not self._stop.is_set():
                    self._retry_at = None
                    self._begin_locked(websocket)
                    return websocket, over
            websocket.close(timeout=0)
            break
        return None, over
