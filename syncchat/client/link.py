"""The client's connection, which is renewed when it breaks, and what must outlive it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from math import inf

from ..chat import events
from ..chat.nicks import is_address
from ..chat.safetext import without_line_end
from ..closecodes import ABNORMAL, NORMAL
from ..errors import ConnectionClosed, NotConnected
from ..net import Deadline, WebSocket
from .comeback import delays, is_final, wait
from .happenings import Disconnected, Event, Line, Reconnected
from .outbox import Item, Outbox
from .tracker import Tracker

__all__ = ["Dial", "Link"]

#: Events that wait for whoever receives, and the characters in which they came.
_MAX_EVENTS, _MAX_SIZE = 10_000, 16 * 1024 * 1024

#: Seconds between the attempts to be called as before a break, whose end the
#: server may not have noticed yet. After a minute it is somebody else's name.
_NICK_AGAIN = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)

_NOT_BACK = "closed before it had come back"

#: Makes a connection, from the nick that is wanted, the first room and the one
#: to come back to, and the place there.
Dial = Callable[[str | None, tuple[str, str] | None, str | None], WebSocket]


class Link:
    """Reads on a thread of its own, from :meth:`open` to :meth:`close`.

    Every method may be called from any thread.
    """

    def __init__(self, dial: Dial, nick: str | None, *, reconnect: bool, history: bool) -> None:
        self._dial = dial
        self._reconnect = reconnect
        self._history = history
        #: Guards everything below. Before a WebSocket's locks in the lock order.
        self._lock = threading.Lock()
        #: An event has come or was taken, something is acknowledged, or it is over.
        self._changed = threading.Condition(self._lock)
        #: Each with the characters in which it came.
        self._events: deque[tuple[Event, int]] = deque()
        self._events_size = 0
        #: Somebody has asked for events; nobody is going to any more.
        self._wanting = False
        self._closed = False
        self._tracker = Tracker()
        self._outbox = Outbox()
        self._websocket: WebSocket | None = None
        #: What is said may go out: the server speaks our dialect, and we are in.
        self._ready = False
        #: The room that the URL names, as the server calls it.
        self._first_room: str | None = None
        #: What to be called after a break.
        self._nick = nick
        #: How often that was asked for on this connection, and not answered yet.
        self._nick_asked = 0
        #: How it ended, once it is over.
        self._end: ConnectionClosed | None = None
        #: When the next attempt to come back is due, on the monotonic clock.
        self._retry_at: float | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    # The connection.

    def open(self, name: str) -> None:
        """Connect, and begin to read, on a thread of that name. Raises what dialling does."""
        if self._thread is not None and self._end is None:
            raise RuntimeError("the client is connected already")
        self.close(None)
        self._stop.clear()
        websocket = self._connect()
        thread = threading.Thread(target=self._run, args=(websocket,), name=name, daemon=True)
        with self._lock:
            stopped = self._stop.is_set()
            if not stopped:
                self._end = None
                self._closed = False
                self._websocket = websocket
                self._thread = thread
                thread.start()
        if stopped:
            websocket.close(timeout=0)
            raise NotConnected("the client was closed while it connected")

    def begin_close(self) -> None:
        """Say goodbye, without waiting for the answer; what is still to come can be received."""
        self._stop.set()
        self.websocket.begin_close(NORMAL, "", Deadline.after(None))

    def close(self, timeout: float | None) -> None:
        """Close the connection properly and join the thread. Nothing where that was done.

        With a ``timeout``, a thread that is dialling may end a little later.
        """
        self._stop.set()
        with self._lock:
            websocket = self._websocket
            self._closed = True
            self._changed.notify_all()
        if websocket is not None:
            websocket.close(timeout=timeout)
        if self._thread is not None:
            # It may be dialling, which has a time limit of its own.
            self._thread.join(timeout)

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
        """Whether one is in a room at this moment, as far as is known."""
        return self._ready

    @property
    def retry_in(self) -> float | None:
        """Seconds to the next attempt to come back, 0 during it; None where there is none."""
        at = self._retry_at
        return None if at is None else max(0.0, at - time.monotonic())

    @property
    def welcome(self) -> events.Welcome | None:
        """The server's last; None where it sent none."""
        return self._tracker.welcome

    @property
    def nick(self) -> str:
        """What one is called, as the server said last; empty where it did not."""
        return self._tracker.nick

    # Saying.

    def post(self, item: Item, deadline: Deadline) -> None:
        """Send ``item`` until it is acknowledged. Raises :class:`TimeoutError`, or the end."""
        with self._lock:
            self._changed.wait_for(
                lambda: not self._outbox.full or self._end is not None, deadline.remaining()
            )
            if self._end is not None:
                raise self._end
            if self._outbox.full:
                raise TimeoutError("too much waits to be acknowledged by the server")
            self._outbox.add(item)
            self._pump_locked()

    def ask(self, text: str) -> None:
        """Send ``text`` once. Raises :class:`NotConnected` where that cannot be now."""
        with self._lock:
            if self._end is not None:
                raise self._end
            if self._ready:
                try:
                    self.websocket.send(text)
                except ConnectionClosed:
                    # The reader is about to see it, too.
                    self._ready = False
            if not self._ready:
                raise NotConnected("there is no connection at the moment")

    @property
    def unacknowledged(self) -> int:
        """How many items wait for the server's acknowledgement."""
        with self._lock:
            return len(self._outbox)

    def flush(self, deadline: Deadline) -> None:
        """Block until everything is acknowledged. Raises :class:`TimeoutError`, or the end."""
        with self._lock:
            self._changed.wait_for(
                lambda: not self._outbox or self._end is not None, deadline.remaining()
            )
            if self._outbox:
                raise self._end or TimeoutError("the server has not acknowledged all in time")

    def _pump_locked(self) -> None:
        """Send what may be sent. Under the lock, which keeps the order; never blocks."""
        while self._ready:
            item = self._outbox.next()
            if item is None:
                return
            try:
                self.websocket.send(item.text)
            except ConnectionClosed:
                # The reader is about to see it, too; it is sent again later.
                self._ready = False

    # Hearing.

    def receive(self, deadline: Deadline) -> Event:
        """The next event. Raises :class:`TimeoutError`, or the end."""
        with self._lock:
            self._wanting = True
            self._changed.wait_for(
                lambda: self._events or self._end is not None or self._given_up_locked(),
                deadline.remaining(),
            )
            if not self._events:
                if self._given_up_locked():
                    raise ConnectionClosed(ABNORMAL, _NOT_BACK)
                raise self._end or TimeoutError("no event came in time")
            was_full = self._full_locked()
            event, size = self._events.popleft()
            self._events_size -= size
            if was_full:
                self._changed.notify_all()
            return event

    def _full_locked(self) -> bool:
        return len(self._events) >= _MAX_EVENTS or self._events_size >= _MAX_SIZE

    def _given_up_locked(self) -> bool:
        """Whether it was closed on its way back: whoever dials may take a while to notice."""
        return self._end is None and self._closed and self._retry_at is not None

    def hand(self, new: Sequence[Event], size: int = 0) -> None:
        """Have events received, which came in so many characters.

        Waits for a place in the queue if somebody takes them out.
        """
        share = size // len(new) if new else 0
        with self._lock:
            for event in new:
                self._changed.wait_for(
                    lambda: not self._full_locked() or self._closed or not self._wanting
                )
                if self._full_locked():
                    if self._closed:
                        return
                    # Nobody has ever asked.
                    _, dropped = self._events.popleft()
                    self._events_size -= dropped
                self._events.append((event, share))
                self._events_size += share
                self._changed.notify_all()

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

    def _connect(self) -> WebSocket:
        tracker = self._tracker
        rooms = None
        if self._first_room is not None and tracker.room is not None:
            rooms = self._first_room, tracker.room
        websocket = self._dial(self._nick, rooms, tracker.place)
        tracker.expect(resume=tracker.place is not None, history=self._history)
        return websocket

    def _listen(self, websocket: WebSocket) -> tuple[ConnectionClosed, bool]:
        """Hand out what comes; how this connection ended, and whether one was let in."""
        welcomed = False
        nick_due: float | None = None
        nick_pauses = iter(_NICK_AGAIN)
        self._nick_asked = 0
        try:
            while True:
                try:
                    due = Deadline(inf if nick_due is None else nick_due)
                    messages = websocket.recv_many(due.remaining())
                except TimeoutError:
                    nick_due = None
                    self._ask_for_nick(websocket)
                    continue
                taken = self._take(messages, plain=websocket.subprotocol is None)
                self.hand(taken, sum(map(len, messages)))
                welcomed = welcomed or self._ready or websocket.subprotocol is None
                if not self._ready or self._nick in (None, self._tracker.nick):
                    nick_due = None
                elif nick_due is None:
                    nick_due = time.monotonic() + next(nick_pauses, inf)
        except ConnectionClosed as exc:
            with self._lock:
                self._ready = False
                self._outbox.rewind()
            return exc, welcomed

    def _ask_for_nick(self, websocket: WebSocket) -> None:
        self._nick_asked += 1
        websocket.send(events.encode(events.Nick(self._nick or "")))

    def _take(self, messages: Sequence[str | bytes], *, plain: bool) -> list[Event]:
        """What the user is to be told of what has come."""
        told: list[Event] = []
        with self._lock:
            for message in messages:
                if not isinstance(message, str):
                    continue
                if plain:
                    told.append(Line(without_line_end(message)))
                    continue
                try:
                    event = events.decode_from_server(message)
                except events.BadEvent:
                    # Of a later version, it may tell what this one does not know.
                    continue
                if not self._note_locked(event):
                    told += self._tracker.feed(event)
                if isinstance(event, events.Welcome):
                    # Said before the limit was known, it would end the connection.
                    text = f"It is longer than the {event.limits.message} bytes of a message."
                    for nonce in self._outbox.drop_larger(event.limits.message):
                        told.append(events.Error("too_big", text, nonce=nonce))
            self._pump_locked()
            self._changed.notify_all()
        return told

    def _note_locked(self, event: events.FromServer) -> bool:
        """Take notice of what concerns the connection. True: and of nothing else."""
        if isinstance(event, events.Message | events.Ack | events.Error) and event.nonce:
            self._outbox.settle(event.nonce)
        elif isinstance(event, events.History):
            for message in event.messages:
                if message.nonce:
                    self._outbox.settle(message.nonce)
        elif isinstance(event, events.Welcome):
            self._outbox.settle(None)
            self._first_room = self._first_room or event.room
            returned = self._tracker.room == event.room
            if not returned or self._nick is None:
                self._nick = None if is_address(event.nick) else event.nick
            self._ready = True
        elif isinstance(event, events.Renamed) and event.old == self._tracker.nick:
            self._nick = event.nick
        elif isinstance(event, events.Error) and event.command == "join":
            self._outbox.settle(None)
        elif isinstance(event, events.Error) and event.command == "nick" and self._nick_asked:
            # Nobody but this client has asked.
            self._nick_asked -= 1
            return True
        return False

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
                    self._websocket = websocket
                    return websocket, over
            websocket.close()
            break
        return None, over
