"""Follows the logs of rooms on Redis: what other nodes append, and live events.

Redis publishes each batch as it stores it (pub/sub). That is a hint which may be lost; the
stream of the room is the truth. A batch whose first offset is the next one is delivered. After
a hole, a reconnect or a new epoch, the follower reads the stream. From time to time it asks for
the ends of all logs: a subscription can look healthy and bring nothing.
"""

from __future__ import annotations

import logging
import random
import selectors
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

import msgspec
from redis.exceptions import RedisError, ResponseError

from ..errors import BadEvent, EngineFailed
from .interface import Delivery, Draft, Message, Position
from .presence import Departed, LiveCodec
from .redis_append import Stored
from .redis_claims import Callbacks
from .redis_connection import Reply
from .redis_format import Batch, Keys, batch_of, messages_of, stored_messages
from .redis_reads import ROOMS, Fence, Followed, SharedReads, SharedTails
from .redis_scripts import EMPTY_SECONDS
from .redis_server import Link, RedisServer

__all__ = ["LogFollower"]

logger = logging.getLogger("syncchat.engine")

#: Seconds between two pings on the subscription, and seconds until the answer is overdue.
_PING_SECONDS, _PONG_SECONDS = 4.0, 5.0

#: Seconds between two questions for the ends of all logs; and between those that keep the logs
#: without a message from being forgotten.
_SWEEP_SECONDS, _TOUCH_SECONDS = 10.0, 0.7 * EMPTY_SECONDS

#: Seconds between two attempts to subscribe, at least and at most; and until a failed read is
#: repeated.
_PAUSE, _AGAIN_SECONDS = (0.1, 0.5), 0.5

#: Seconds for which ``follow`` waits until the room is subscribed.
_CONFIRM_SECONDS = 0.5

#: After holes: messages of a room read at a time, and rooms that share a round trip.
_PIECE, _SHARING = 500, 20


class LogFollower:
    """The thread ``syncchat-follower``, and its subscription connection."""

    def __init__(
        self,
        server: RedisServer,
        reads: SharedReads,
        keys: Keys,
        codec: LiveCodec,
        callbacks: Callbacks,
    ) -> None:
        self._server = server
        self._reads = reads
        self._keys = keys
        self._codec = codec
        self._callbacks = callbacks
        #: Guards changes of the two fields below; lookups need no lock. No other lock is taken
        #: under it.
        self._lock = threading.Lock()
        self._rooms: dict[str, Followed] = {}
        #: Rooms that are to be subscribed to or not any more, in this order.
        self._requests: list[tuple[str, str]] = []
        self._stopping = threading.Event()
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        #: Reads that clients of the followed rooms share.
        self.tails = SharedTails()
        self.is_subscribed = False
        # Only the follower's thread uses the fields below.
        #: Rooms whose ends must be compared with Redis.
        self._unchecked: set[str] = set()
        #: The next messages of rooms, which have arrived together.
        self._arrived: dict[str, list[Message]] = {}
        self._check_at = self._sweep_at = self._touch_at = self._ping_at = 0.0
        self._pings = 0
        #: When the answer to the last ping is overdue; None: it has come.
        self._pong_by: float | None = None
        #: The ends of all logs before the ping of that number.
        self._expected: tuple[int, dict[str, tuple[str, int]]] = (0, {})
        self._thread = threading.Thread(target=self._run, name="syncchat-follower", daemon=True)
        self._thread.start()

    # For other threads.

    def follow(self, room: str) -> Position:
        """As :meth:`Log.follow`."""
        known = self._rooms.get(room)
        if known is not None:
            return known.position
        epoch, last, _, at = self._positions([room])[0]
        followed = Followed(position := Position(epoch, last), at)
        with self._lock:
            self._rooms[room] = followed
            self._requests.append(("SUBSCRIBE", room))
        self._wake()
        if self.is_subscribed:
            # For live events, of which nothing is read later.
            followed.subscribed.wait(_CONFIRM_SECONDS)
        return position

    def unfollow(self, room: str) -> None:
        """As :meth:`Log.unfollow`."""
        with self._lock:
            if self._rooms.pop(room, None) is not None:
                self._requests.append(("UNSUBSCRIBE", room))
        self._wake()

    def fence(self, room: str) -> Fence:
        """What has been seen of the room's log: epoch, offset, time; nothing if not followed."""
        followed = self._rooms.get(room)
        return ("", 0, 0.0) if followed is None else followed.fence()

    def take_stored(self, room: str, drafts: Sequence[Draft], stored: Stored) -> None:
        """Deliver what is stored, if nothing before it is on its way; on the appending thread."""
        followed = self._rooms.get(room)
        if followed is None:
            return
        followed.note_stored(stored.end, stored.at)
        messages = stored_messages(drafts, stored.answers, stored.at)
        if messages and not followed.awaits_events():
            own = Delivery(stored.end, messages)
            if self._callbacks.deliver_own(room, own):
                followed.note_own(own)
                self.tails.extend(room, own)

    def publishing(self, room: str, event: bytes) -> AbstractContextManager[None]:
        """The context in which a live event is published. From any thread."""
        followed = self._rooms.get(room)
        return nullcontext() if followed is None else followed.publishing(event)

    def stop(self) -> None:
        """End the thread soon. From any thread."""
        self._stopping.set()
        self._wake()

    def close(self) -> None:
        """End the thread, and wait for it."""
        self.stop()
        self._thread.join()
        self._wake_in.close()
        self._wake_out.close()

    def _wake(self) -> None:
        try:
            self._wake_in.send(b"x")
        except OSError:
            # The buffer is full, so that the thread is about to wake; or it has ended.
            return

    # The follower's thread.

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                link = self._server.connect()
            except (RedisError, OSError) as exc:
                self._server.note_failure(exc)
            else:
                try:
                    self._serve(link)
                except (RedisError, OSError) as exc:
                    self._server.note_failure(exc)
                except Exception:
                    logger.exception("the follower failed, and subscribes again")
                finally:
                    self.is_subscribed = False
                    link.close()
            self._stopping.wait(random.uniform(*_PAUSE))  # noqa: S311 - no secret

    def _serve(self, link: Link) -> None:
        """Follow until the connection is lost or the engine is closed."""
        now = time.monotonic()
        self._arrived.clear()
        self._pong_by, self._ping_at, self._sweep_at = None, now, now + _SWEEP_SECONDS
        with self._lock:
            rooms, self._requests = [*self._rooms], []
        self._send(link, [("SUBSCRIBE", room) for room in rooms])
        with selectors.DefaultSelector() as selector:
            selector.register(link.socket, selectors.EVENT_READ)
            selector.register(self._wake_out, selectors.EVENT_READ)
            while not self._stopping.is_set():
                ready = selector.select(self._until_due())
                if any(key.fileobj is self._wake_out for key, _ in ready):
                    self._take_requests(link)
                if any(key.fileobj is link.socket for key, _ in ready):
                    self._read(link)
                self._keep_up(link)

    def _until_due(self) -> float:
        due = [self._ping_at, self._sweep_at]
        if self._unchecked:
            due.append(self._check_at)
        if self._pong_by is not None:
            due.append(self._pong_by)
        return max(0.0, min(due) - time.monotonic())

    def _take_requests(self, link: Link) -> None:
        with suppress(BlockingIOError):
            while len(self._wake_out.recv(4096)) == 4096:
                pass
        with self._lock:
            requests, self._requests = self._requests, []
        self._send(link, requests)

    def _send(self, link: Link, requests: Sequence[tuple[str, str]]) -> None:
        """Subscribe and unsubscribe, in this order."""
        at = 0
        while at < len(requests):
            command, end = requests[at][0], at
            channels = []
            while end < min(len(requests), at + ROOMS) and requests[end][0] == command:
                channels.append(self._keys.channel(requests[end][1]))
                end += 1
            link.send([(command, *channels)])
            at = end

    def _read(self, link: Link) -> None:
        """Take what has arrived, and deliver the messages of a room together."""
        for reply in link.replies():
            match reply:
                case [b"message", bytes(channel), bytes(payload)]:
                    self._take(self._keys.room(channel), payload)
                case [b"subscribe", bytes(channel), _]:
                    self._note_subscribed(self._keys.room(channel))
                case [b"pong", bytes(number)] | bytes(number):
                    # Without a subscription it is the number alone.
                    self._deliver_arrived(*self._arrived)
                    self._take_pong(int(number))
                case ResponseError():
                    # Such as NOPERM: this Redis will not do.
                    raise reply
                case _:
                    pass
        self._deliver_arrived(*self._arrived)

    def _note_subscribed(self, room: str) -> None:
        # From now on nothing is missed; before, something may have been.
        self._unchecked.add(room)
        self._check_at = time.monotonic()
        followed = self._rooms.get(room)
        if followed is not None:
            followed.subscribed.set()

    def _take(self, room: str, payload: bytes) -> None:
        followed = self._rooms.get(room)
        if followed is None:
            return
        try:
            if payload[:1] == b"[":
                self._take_batch(room, followed, batch_of(payload))
                return
            self._deliver_arrived(room)
            if payload[:1] == b"D":
                departed = Departed(msgspec.json.decode(payload[1:], type=list[str]))
                self._call(self._callbacks.claims_changed, room, departed)
            else:
                self._call(self._callbacks.live, room, self._codec.decode(payload))
                followed.meet(payload)
        except (ValueError, BadEvent, msgspec.MsgspecError) as exc:
            # A batch that another program publishes is missed by the next one, or the sweep.
            logger.warning("room %r: not from a node of this version: %s", room, exc)

    def _take_batch(self, room: str, followed: Followed, batch: Batch) -> None:
        position, arrived = followed.position, self._arrived.get(room)
        offset = arrived[-1].offset if arrived else position.offset
        is_next = batch.epoch == position.epoch and batch.first <= offset + 1
        if is_next and followed.is_own(batch, offset):
            self._deliver_arrived(room)
            followed.delivered = Position(batch.epoch, batch.last), batch.time
            return
        if not is_next or (batch.last > offset and followed.contradicts(batch)):
            # Ask Redis: what is published may be older than what is known.
            self._unchecked.add(room)
            self._check_at = time.monotonic()
            return
        messages = batch.messages(offset)
        if messages:
            if arrived:
                arrived += messages
            else:
                self._arrived[room] = messages

    def _deliver_arrived(self, *rooms: str) -> None:
        for room in rooms:
            messages, followed = self._arrived.pop(room, None), self._rooms.get(room)
            if messages and followed is not None:
                self._advance(room, followed, messages, complete=True)

    def _advance(
        self, room: str, followed: Followed, messages: Sequence[Message], *, complete: bool
    ) -> None:
        """Deliver messages, and note so."""
        position = Position(followed.position.epoch, messages[-1].offset)
        self._move(room, followed, messages[-1].time, Delivery(position, messages, complete))

    def _move(self, room: str, followed: Followed, at: float, delivery: Delivery) -> None:
        followed.delivered = delivery.position, at
        self.tails.extend(room, delivery)
        self._call(self._callbacks.deliver, room, delivery)

    def _call(self, callback: Callable[[str, Any], None], room: str, what: object) -> None:
        """Call back. A failure of one room must not end the deliveries to all."""
        try:
            callback(room, what)
        except Exception:
            logger.exception("room %r: a delivery failed", room)

    # Holes, and what is due.

    def _keep_up(self, link: Link) -> None:
        now = time.monotonic()
        if self._pong_by is not None and now >= self._pong_by:
            raise ConnectionError("the subscription does not answer")
        if self._unchecked and now >= self._check_at:
            self._check()
        if now >= self._sweep_at:
            self._sweep_at = now + _SWEEP_SECONDS
            self._sweep()
            # The answer to this ping comes after everything that was published until now.
            self._ping_at = now
        if now >= self._ping_at and self._pong_by is None:
            self._pings += 1
            self._ping_at, self._pong_by = now + _PING_SECONDS, time.monotonic() + _PONG_SECONDS
            link.send([("PING", self._pings)])

    def _take_pong(self, number: int) -> None:
        self._pong_by = None
        self.is_subscribed = True
        before, expected = self._expected
        if number <= before:
            return
        self._expected = (number, {})
        for room, (epoch, last) in expected.items():
            followed = self._rooms.get(room)
            position = Position("", 0) if followed is None else followed.position
            if followed is not None and (position.epoch != epoch or position.offset < last):
                # A new subscription reads what is missing.
                raise ConnectionError("the subscription brings nothing")

    def _sweep(self) -> None:
        """Ask for the ends of all logs."""
        rooms, now = [*self._rooms], time.monotonic()
        touches = now >= self._touch_at
        try:
            ends = self._reads.ends(rooms)
            # This is a hint. Where it differs from what has been seen, Redis may have gone back.
            odd = [
                room
                for room in rooms
                if not self._is_at(room, ends.get(room)) or (touches and room not in ends)
            ]
            exact = self._positions(odd)
        except EngineFailed:
            # Logged where it failed. The next one comes.
            return
        if touches:
            self._touch_at = now + _TOUCH_SECONDS
        expected = {room: (end.epoch, end.offset) for room, (end, _) in ends.items()}
        for room, (epoch, last, *_) in zip(odd, exact, strict=True):
            expected[room] = epoch, last
        self._expected = (self._pings, expected)

    def _positions(self, rooms: Sequence[str]) -> list[tuple[str, int, int, float]]:
        return self._reads.positions([(room, self.fence(room)) for room in rooms])

    def _is_at(self, room: str, end: tuple[Position, float] | None) -> bool:
        """Whether ``end``, or no message, is what has been seen of the room."""
        epoch, offset, at = self.fence(room)
        if end is None:
            return offset == 0
        return end[0] == Position(epoch, offset) and at in (0, end[1])

    def _check(self) -> None:
        """Compare rooms with Redis, and read what is missing."""
        rooms = [room for room in self._unchecked if room in self._rooms]
        self._unchecked.clear()
        try:
            ends = self._positions(rooms)
        except EngineFailed:
            # Logged where it failed.
            self._unchecked.update(rooms)
            ends = []
        behind = [
            (room, followed)
            for room, (epoch, last, *_) in zip(rooms, ends, strict=False)
            if (followed := self._rooms.get(room)) is not None
            and followed.position != Position(epoch, last)
        ]
        for at in range(0, len(behind), _SHARING):
            self._catch_up(behind[at : at + _SHARING])
        self._check_at = time.monotonic() + _AGAIN_SECONDS

    def _catch_up(self, behind: Sequence[tuple[str, Followed]]) -> None:
        """Deliver everything up to the ends of the logs of some rooms, which share the reads."""
        while behind and not self._stopping.is_set():
            left = []
            places = [(room, followed.position) for room, followed in behind]
            try:
                replies = self._reads.tails(places, _PIECE)
            except EngineFailed:
                # Logged where it failed.
                self._unchecked.update(room for room, _ in behind)
                return
            for (room, followed), reply in zip(behind, replies, strict=True):
                try:
                    if not self._take_tail(room, followed, reply):
                        left.append((room, followed))
                except EngineFailed as exc:
                    logger.warning("room %r: %s", room, exc)
                    self._unchecked.add(room)
            behind = left

    def _take_tail(self, room: str, followed: Followed, reply: Reply) -> bool:
        """Deliver the reply of TAIL. Returns whether that is everything. Raises EngineFailed."""
        before = followed.position
        last: int
        base: int
        raw_epoch, last, base, _, _, _, first, entries = reply
        epoch = raw_epoch.decode()
        if epoch != before.epoch:
            anew = Delivery(Position(epoch, base), (), complete=False)
            self._move(room, followed, 0.0, anew)
            return base == last
        if before.offset >= last:
            return True
        messages = messages_of(first, entries)
        if messages:
            self._advance(room, followed, messages, complete=first == before.offset + 1)
            return messages[-1].offset >= last
        lost = Delivery(Position(epoch, last), (), complete=False)
        self._move(room, followed, 0.0, lost)
        return True
