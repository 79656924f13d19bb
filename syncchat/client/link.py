"""The client's connection, which is renewed when it breaks, and what must outlive it."""

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

#: Seconds that :meth:`Link.close` may take by default; and the share of its time,
#: and the most seconds, that the thread gets after the connection is cut.
_CLOSE_TIMEOUT = 10.0
_SHARE, _MOST = 0.1, 0.25

#: Makes a connection, from the nick that is wanted, the first room and the one
#: to come back to, and the place there. The event, once set, ends the attempt.
Dial = Callable[[str | None, tuple[str, str] | None, str | None, threading.Event], WebSocket]


class Link:
    """Reads on a thread of its own, from :meth:`open` to :meth:`close`.

    Every method may be called from any thread.
    """

    def __init__(self, dial: Dial, protocol: Protocol, *, reconnect: bool) -> None:
        self._dial = dial
        self._reconnect = reconnect
        self._inbox = Inbox()
        #: Guards everything below, the protocol too. Before a WebSocket's locks,
        #: and the inbox's, in the lock order.
        self._lock = threading.Lock()
        #: Something is acknowledged, or sent to a server of plain lines, or it is over.
        self._changed = threading.Condition(self._lock)
        self._protocol = protocol
        self._closed = False
        self._websocket: WebSocket | None = None
        #: How it ended, once it is over.
        self._end: ConnectionClosed | None = None
        #: When the next attempt to come back is due, on the monotonic clock.
        self._retry_at: float | None = None
        #: Set: no attempt to connect is made any more, and one under way ends.
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    # The connection.

    def open(self, name: str) -> None:
        """Connect, and begin to read, on a thread of that name. Raises what dialling does."""
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
        """Say goodbye, without waiting for the answer; what is still to come can be received."""
        self._stop.set()
        self.websocket.begin_close(NORMAL, "", Deadline.after(None))

    def close(self, timeout: float | None) -> None:
        """Close the connection properly and join the thread. Nothing where that was done.

        Takes ``timeout`` seconds at most, by default 10. A thread that the system
        holds up, as in the look-up of a name, may end later.
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
                # The thread may take a moment to notice.
                self._inbox.finish(ConnectionClosed(ABNORMAL, _NOT_BACK))
        self._inbox.close()
        if websocket is not None:
            # The thread reads on, up to the server's answer.
            websocket.begin_close(NORMAL, "", closing)
        if self._thread is not None:
            self._thread.join(deadline.remaining())

    @property
    def opened(self) -> bool:
        """Whether it is open, be it on its way back, and nobody has closed it."""
        return self._thread is not None and not self._closed

    @property
    def websocket(self) -> WebSocket:
        """The connection, or the last. Raises :class:`RuntimeError` before the first."""
        if self._websocket is None:
            raise RuntimeError("the client is not connected: call connect(), or use with")
        return self._websocket

    @property
    def end(self) -> ConnectionClosed | None:
        """How it ended, None while it is not over."""
        return self._end

    @property
    def ready(self) -> bool:
        """Whether what is said goes out at this moment, as far as is known."""
        return self._protocol.ready

    @property
    def plain(self) -> bool | None:
        """Whether the server, of this connection or the last, speaks plain lines; None: unknown."""
        return self._protocol.dialect.plain

    @property
    def retry_in(self) -> float | None:
        """Seconds to the next attempt to come back, 0 during it; None where there is none."""
        at = self._retry_at
        return None if at is None else max(0.0, at - time.monotonic())

    @property
    def welcome(self) -> events.Welcome | None:
        """The server's last; None where it sent none."""
        return None if self.plain else self._protocol.tracker.welcome

    @property
    def nick(self) -> str:
        """What one is called, as the server said last; empty where it did not."""
        return "" if self.plain else self._protocol.tracker.nick

    # Saying.

    def post(self, item: Item, deadline: Deadline) -> str | None:
        """Send ``item`` until it is acknowledged; returns its nonce.

        In plain lines it is sent once, as fast as the server takes it, and has no
        nonce. Raises :class:`TimeoutError`, :class:`NotConnected` where a server
        of plain lines is away, :class:`ValueError` for an item that is too long,
        or the end.
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
        """Send the event ``text`` once. Raises :class:`NotConnected` where that cannot be now.

        And as :meth:`post` does.
        """
        # Raises where there never was a connection.
        self.websocket  # noqa: B018
        with self._lock:
            if self.plain and self._end is None:
                raise NotConnected("the server knows plain lines only: send_line() is for them")
            self._protocol.check_size(text)
            self._send_once_locked(text)

    def send_line(self, line: str, deadline: Deadline) -> None:
        """Send ``line`` once to a server of plain lines, behind what was said before.

        Raises as :meth:`post` does.
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
            # The reader is about to see it, too.
            self._protocol.ready = False
        if not self._protocol.ready:
            raise NotConnected(_NO_CONNECTION)

    @property
    def unacknowledged(self) -> int:
        """How many items wait for the server's acknowledgement."""
        with self._lock:
            return len(self._protocol.outbox)

    def flush(self, deadline: Deadline) -> None:
        """Block until everything is acknowledged or, in plain lines, taken by the network.

        Raises :class:`TimeoutError`, or the end.
        """
        with self._lock:
            self._wait_sent_locked(deadline)
            websocket = self.websocket
        if self.plain:
            websocket.flush(deadline.remaining())

    def _wait_sent_locked(self, deadline: Deadline) -> None:
        """Wait until everything is acknowledged or, in plain lines, sent."""
        outbox = self._protocol.outbox
        self._changed.wait_for(lambda: not outbox or self._end is not None, deadline.remaining())
        if outbox:
            raise self._end or TimeoutError("the server has not acknowledged all in time")

    def _pump_locked(self) -> None:
        """Send what may be sent, and wake whoever waits for a change. Never blocks."""
        self._changed.notify_all()
        while (going := self._protocol.next()) is not None:
            item, text = going
            try:
                self.websocket.send(text)
            except ConnectionClosed:
                # The reader is about to see it, too; it is sent again later.
                self._protocol.ready = False
                return
            told = self._protocol.sent(item)
            if told is not None:
                # Before whatever the server answers to it.
                self._inbox.put(told)

    # Hearing.

    def receive(self, deadline: Deadline) -> Event:
        """The next event. Raises :class:`TimeoutError`, or the end."""
        return self._inbox.receive(deadline)

    def hand(self, new: Sequence[Event]) -> None:
        """Have events received, which the client itself has made; waits for room."""
        self._inbox.hand(new)

    # The reader's thread.

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
                # Before anybody hears of it, and looks.
                self._retry_at = time.monotonic()
                self.hand([Disconnected(exc.code, exc.reason)])
                if welcomed:
                    pauses = delays()
                websocket, end = self._come_back(websocket, pauses)
                if websocket is not None:
                    self.hand([Reconnected()])
        finally:
            # Whatever comes: nobody is to wait for a thread that is no more.
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
        """Hand out what comes; how this connection ended, and whether one was let in."""
        protocol = self._protocol
        pulse = Pulse(websocket)
        welcomed = False
        try:
            while True:
                with self._lock:
                    due_at, owed = protocol.due_at, protocol.owed
                    if self._stop.is_set():
                        # No ping may follow the Close; its answer has a time limit.
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
        """What the user is to be told of what has come, or of the time that has passed."""
        protocol = self._protocol
        with self._lock:
            told = [event for message in messages for event in protocol.read(message)]
            request = protocol.pass_time(time.monotonic())
            if request is not None:
                # Where the connection is lost, the next read tells.
                with contextlib.suppress(ConnectionClosed):
                    self.websocket.send(request)
            self._pump_locked()
        return told

    def _come_back(
        self, lost: WebSocket, pauses: Iterator[float]
    ) -> tuple[WebSocket | None, ConnectionClosed]:
        """A new connection, or None; and in the latter case, how it ended."""
        over = ConnectionClosed(ABNORMAL, _NOT_BACK)
        for seconds in pauses:
            self._retry_at = time.monotonic() + seconds
            if not wait(seconds, lost.remote_address, self._stop):
                break
            try:
                websocket = self._connect()
            except (OSError, RuntimeError) as exc:
                # No server, no network; no descriptors or threads left here.
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
