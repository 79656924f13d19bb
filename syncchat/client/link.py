"""The client's connection: opens it, renews it after a break, and runs the protocol on it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from math import inf
from typing import TypeVar

from ..chat import events
from ..closecodes import ABNORMAL, NORMAL
from ..errors import ConnectionClosed, NotConnected, OutboxFull
from ..net import Address, Deadline, WebSocket
from .changes import Changes
from .events import Disconnected, Event, Inbox, Reconnected
from .outbox import Item
from .protocol import Protocol
from .reconnect import Naps, Pause

__all__ = ["Connect", "Link"]

_NOT_BACK = "the client was closed before it had reconnected"
_CLOSED_MEANWHILE = "the client was closed while connecting"
_NEVER_CONNECTED = "the client is not connected: call connect() or use a with statement"
_NO_CONNECTION = "the client is not connected at the moment"

#: Seconds that :meth:`Link.close` may take by default. The reserve for joining the
#: thread after the connection is cut: a share of the timeout, and the most seconds.
_CLOSE_TIMEOUT = 10.0
_SHARE, _MOST = 0.1, 0.25

Result = TypeVar("Result")
_NO_LIMIT, _AT_ONCE = Deadline.after(None), Deadline.after(0)

#: Opens a connection to a URL. The event ends the attempt when it is set.
Connect = Callable[[str, threading.Event], WebSocket]


class Link:
    """Reads on a background thread from :meth:`open` to :meth:`close`.

    Any thread may call every method.
    """

    def __init__(
        self, connect: Connect, protocol: Protocol, *, reconnect: bool, inbox: Inbox | None = None
    ) -> None:
        self._connect, self._reconnect = connect, reconnect
        self._inbox = inbox or Inbox()
        #: Guards everything below, including the protocol. Taken before the WebSocket's
        #: locks and the inbox's lock in the lock order.
        self._lock = threading.Lock()
        self._changes = Changes(self._lock, f"syncchat-say {protocol.url.partition('?')[0]}")
        self._protocol = protocol
        self._closed = False
        self._websocket: WebSocket | None = None
        self._end: ConnectionClosed | None = None  # How it ended for good; None until then.
        self._retry_at: float | None = None  # When to reconnect, on the monotonic clock.
        self._stop = threading.Event()  # It ends an attempt to connect, and prevents others.
        self._pause = Pause(self._stop)
        self._thread: threading.Thread | None = None
        self._opening = False  # Whether a thread is in open().

    # The connection.

    def open(self, name: str, patience: Deadline = _AT_ONCE) -> None:
        """Connect, and start to read on a thread with this name. Raises what connecting raises.

        Tries again until ``patience`` ends. Also raises :class:`RuntimeError` if the link is open
        or another thread opens it, and :class:`NotConnected` if :meth:`close` is called meanwhile.
        """
        with self._lock:
            if self._opening or (self._thread is not None and self._end is None):
                raise RuntimeError("the client is already connected")
            self._opening = True
        try:
            self._open(name, patience)
        finally:
            with self._lock:
                self._opening = False

    def _open(self, name: str, patience: Deadline) -> None:
        self.close(None)
        self._stop.clear()
        self._pause = Pause(self._stop)
        websocket = self._connect_first(patience)
        thread = threading.Thread(target=self._run, args=(websocket,), name=name, daemon=True)
        try:
            with self._lock:
                if self._stop.is_set():
                    raise NotConnected(_CLOSED_MEANWHILE)
                # First: the system may have no thread left. The thread waits for the lock.
                thread.start()
                self._thread = thread
                self._end = None
                self._closed = False
                self._inbox.open()
                self._changes.open()
                self._begin_locked(websocket)
        except BaseException:
            self._stop.set()
            websocket.close(timeout=0)
            raise

    def _connect_first(self, patience: Deadline) -> WebSocket:
        """Connect, and try again until ``patience`` ends or an attempt fails for good."""
        while True:
            try:
                return self._connect(self._protocol.url, self._stop)
            except OSError as exc:
                if self._stop.is_set():
                    raise NotConnected(_CLOSED_MEANWHILE) from exc
                left = patience.remaining()
                if left == 0:
                    raise
                with self._lock:
                    delay = self._protocol.closed(exc)
                if delay is None:
                    raise
                self._stop.wait(delay if left is None else min(delay, left))

    def begin_close(self) -> None:
        """Send a Close without waiting for the reply. Events that still arrive can be received."""
        self._stop.set()
        self._pause.cut_short()
        self.websocket.begin_close(NORMAL, "", _NO_LIMIT)

    def close(self, timeout: float | None) -> list[Item]:
        """Close the connection properly and join the thread. No effect on a closed link.

        Takes at most ``timeout`` seconds, by default 10. A thread that the system
        blocks, for example in a DNS lookup, may end later. Returns the messages that are
        not acknowledged.
        """
        if timeout is None:
            timeout = _CLOSE_TIMEOUT
        deadline = Deadline.after(timeout)
        closing = Deadline(deadline.at - min(_SHARE * timeout, _MOST))
        # What an interrupted call has said is not delivered either.
        self._changes.settle()
        self._stop.set()
        self._pause.cut_short()
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
        # It may be the calling thread, in on_event().
        if self._thread not in (None, threading.current_thread()):
            self._thread.join(deadline.remaining())
        self._changes.close()
        with self._lock:
            return self._protocol.outbox.pending()

    def hurry(self) -> None:
        """Cut the connection and connect anew at once, or cut the delay before that short."""
        with self._lock:
            websocket = self._websocket
            self._pause.cut_short()
            if websocket is not None and self._retry_at is None:
                websocket.abort("you asked to connect anew")

    @property
    def opened(self) -> bool:
        """Whether the link is open or reconnecting, and :meth:`close` was not called."""
        return self._thread is not None and not self._closed

    @property
    def websocket(self) -> WebSocket:
        """The current or last connection. Raises :class:`RuntimeError` before the first."""
        if self._websocket is None:
            raise RuntimeError(_NEVER_CONNECTED)
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

    def post(self, event: events.Say | events.Action | events.Join, timeout: float | None) -> bool:
        """Send ``event`` until the server acknowledges it. Returns whether it will.

        A server of plain lines will not: it gets the event once, as fast as it takes it.
        Raises :class:`OutboxFull` or, in plain lines, :class:`TimeoutError` when ``timeout``
        has passed, :class:`NotConnected` while a server of plain lines is unreachable,
        :class:`ValueError` for an event that is too long, or the end of the connection.
        """
        deadline = _NO_LIMIT if timeout is None else Deadline.after(timeout)
        protocol = self._protocol
        if protocol.dialect.plain:
            self.websocket.flush(deadline.remaining())

        def say_locked() -> bool:
            if self._end is not None:
                raise self._end
            if self._websocket is None:
                raise RuntimeError(_NEVER_CONNECTED)
            if protocol.dialect.plain and not protocol.ready:
                raise NotConnected(_NO_CONNECTION)
            if not protocol.say(event, time.monotonic()):
                return False
            self._pump_locked()
            return True

        if self._changes.wait(say_locked, deadline):
            return not protocol.dialect.plain
        raise OutboxFull("too many messages are waiting for an acknowledgement")

    def ask(self, event: events.FromClient) -> None:
        """Send ``event`` once. Raises :class:`NotConnected` if it cannot be sent now.

        Also raises :class:`ValueError` for an event that is too long, or the end of the
        connection.
        """

        def send_locked() -> bool:
            if self._websocket is None:
                raise RuntimeError(_NEVER_CONNECTED)
            if self.plain and self._end is None:
                raise NotConnected("the server supports plain lines only: use send_line()")
            self._send_once_locked(self._protocol.encode(event))
            if isinstance(event, events.Private):
                self._protocol.asked(time.monotonic())
            return True

        self._changes.wait(send_locked, _NO_LIMIT)

    def apply(self, step: Callable[[Protocol], Result]) -> Result:
        """Call ``step`` with the state, and send what may be sent then. Never blocks."""
        results: list[Result] = []

        def apply_locked() -> bool:
            results.append(step(self._protocol))
            self._pump_locked()
            return True

        self._changes.wait(apply_locked, _NO_LIMIT)
        return results[0]

    def send_line(self, line: str, timeout: float | None) -> None:
        """Send ``line`` once to a server of plain lines, after all items posted so far.

        Raises the same exceptions as :meth:`post`.
        """
        deadline = Deadline.after(timeout)
        self.websocket.flush(deadline.remaining())
        self._wait_sent(deadline, lambda: self._send_once_locked(line))

    @property
    def unacknowledged(self) -> int:
        """The number of items that the server has not acknowledged."""
        with self._lock:
            return len(self._protocol.outbox)

    def flush(self, timeout: float | None) -> None:
        """Block until every item is acknowledged or, in plain lines, taken by the network.

        Raises :class:`TimeoutError`, or the end of the connection.
        """
        deadline = Deadline.after(timeout)
        self._wait_sent(deadline)
        if self.plain:
            self.websocket.flush(deadline.remaining())

    def _send_once_locked(self, text: str) -> None:
        assert self._lock.locked()
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

    def _wait_sent(
        self, deadline: Deadline, then_locked: Callable[[], None] = lambda: None
    ) -> None:
        """Wait until every item is acknowledged or, in plain lines, sent; call ``then_locked``."""

        def look_locked() -> bool:
            if self._protocol.outbox:
                if self._end is not None:
                    raise self._end
                return False
            then_locked()
            return True

        if not self._changes.wait(look_locked, deadline):
            raise TimeoutError("the server did not acknowledge all messages in time")

    def _pump_locked(self) -> None:
        """Send the texts that may be sent now, and wake the waiting threads. Never blocks."""
        assert self._lock.locked()
        websocket, protocol = self._websocket, self._protocol
        while websocket is not None and (text := protocol.next()) is not None:
            try:
                websocket.send(text)
            except ConnectionClosed:
                # The reader thread is about to notice the loss, too. The items go out again later.
                protocol.ready = False
                break
            if protocol.dialect.plain and (told := protocol.sent()) is not None:
                # Before any answer of the server to this item.
                self._inbox.put(told)
        self._changes.notify_locked()

    # Receiving.

    def receive(self, timeout: float | None) -> Event:
        """Return the next event. Raises :class:`TimeoutError`, or the end after the last event.

        Also raises :class:`RuntimeError` before the first connection.
        """
        if self._websocket is None:
            raise RuntimeError(_NEVER_CONNECTED)
        return self._inbox.receive(timeout)

    def put(self, event: Event) -> None:
        """Add an event of the client itself. Never waits: the caller may be the only receiver."""
        self._inbox.put(event)

    # The reader thread.

    def _run(self, websocket: WebSocket) -> None:
        end = ConnectionClosed(ABNORMAL, "internal error of the client")
        try:
            end = self._keep_connected(websocket)
        finally:
            # Also after an unexpected exception: no thread may go on waiting for this one.
            with self._lock:
                self._retry_at = None
                self._end = end
                self._changes.notify_locked()
                last = self._websocket
            self._inbox.finish(end)
            if last is not None:
                last.close(timeout=0)

    def _keep_connected(self, websocket: WebSocket) -> ConnectionClosed:
        """Read, and reconnect after each break. Returns how the connection ended for good."""
        while True:
            end = self._listen(websocket)
            with self._lock:
                delay = self._protocol.closed(end)
            websocket.close(timeout=0)
            if self._stop.is_set() or not self._reconnect or delay is None:
                return end
            # Set before the event is handed over: its receiver may look at retry_in at once.
            self._retry_at = time.monotonic()
            self._inbox.hand([Disconnected(end.code, end.reason)])
            new = self._come_back(websocket.remote_address, delay)
            if isinstance(new, ConnectionClosed):
                return new
            websocket = new
            self._inbox.hand([Reconnected()])

    def _begin_locked(self, websocket: WebSocket) -> None:
        assert self._lock.locked()
        self._websocket = websocket
        headers = websocket.response_headers
        self._protocol.opened(websocket.subprotocol, headers, time.monotonic())
        self._pump_locked()

    def _listen(self, websocket: WebSocket) -> ConnectionClosed:
        """Deliver events until the connection ends. Returns the end."""
        protocol = self._protocol
        messages: list[str | bytes] = []
        naps, again_at = Naps(), inf
        try:
            while True:
                told: list[Event] = []
                now, heard_at = time.monotonic(), websocket.heard_at
                with self._lock:
                    for message in messages:
                        told += protocol.received(message, now)
                    if naps.noticed(now, again_at):
                        protocol.woke(now)
                    again_at, ping = inf, False
                    # No ping may follow a Close, and the wait for its reply has a limit anyway.
                    if not self._stop.is_set():
                        again_at, ping = protocol.check(now, heard_at)
                    self._pump_locked()
                if told:
                    self._inbox.hand(told, sum(map(len, messages)))
                if protocol.break_off is not None:
                    return protocol.break_off
                if ping:
                    # A Close may have been sent meanwhile: the reading tells how that ends.
                    with contextlib.suppress(ConnectionClosed):
                        websocket.ping()
                try:
                    messages = websocket.recv_many(Deadline(again_at).remaining())
                except TimeoutError:
                    messages = []
        except ConnectionClosed as exc:
            return exc

    def _come_back(self, server: Address | None, delay: float) -> WebSocket | ConnectionClosed:
        """Reconnect to ``server``. Returns the new connection, or the end to report."""
        while True:
            self._retry_at = time.monotonic() + delay
            if not self._pause.wait(server, delay):
                break
            try:
                websocket = self._connect(self._protocol.url, self._stop)
            except (OSError, RuntimeError) as exc:
                # The server is unreachable, or this process has no descriptors or threads left.
                with self._lock:
                    again = self._protocol.closed(exc)
                if again is None:
                    return ConnectionClosed(ABNORMAL, str(exc))
                delay = again
                continue
            with self._lock:
                if not self._stop.is_set():
                    self._retry_at = None
                    self._begin_locked(websocket)
                    return websocket
            websocket.close(timeout=0)
            break
        return ConnectionClosed(ABNORMAL, _NOT_BACK)
