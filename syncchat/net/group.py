"""A lock-protected list of connections, and the fan-out to it.

Encode once, write in batches, block on nobody: a message is encoded as a
frame once, whatever the number of members (an unmasked, uncompressed frame is
the same bytes for each of them), the frames of a batch are joined, and each
member costs one non-blocking write a batch.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from wsproto.connection import Connection, ConnectionType
from wsproto.events import Event

from .combining import Combiner
from .messages import Message, event_of
from .outlet import Written
from .websocket import WebSocket

__all__ = ["Group"]

#: Bytes of messages that may wait for a fan-out before publishers do.
_MAX_QUEUED = 1024 * 1024

#: Bytes that a message takes in the queue besides its own.
_OVERHEAD = 200

#: Bytes that one write to a member may take. Small against the backlog that a
#: member may have, so that a large batch alone makes nobody a slow consumer.
_MAX_WRITE = 256 * 1024


# Not frozen, which costs more than all the rest of a small message's way in.
@dataclass(slots=True)
class _Outgoing:
    """A message in the queue."""

    event: Event
    size: int
    exclude: frozenset[WebSocket]
    #: The one member that it is for, if it is not for all.
    only: WebSocket | None

    def is_for(self, websocket: WebSocket) -> bool:
        """Whether this member is to hear it."""
        return websocket not in self.exclude and self.only in (None, websocket)


class Group:
    """The connections that hear the same messages, in the same order.

    Every method may be called from any thread, whether or not it serves a
    connection. A member hears each message whose ``send`` began after the
    member's ``add`` had returned, and none whose ``send`` had returned before
    ``add`` began. Members that are closed drop out by themselves at the
    next message, but ``discard`` is the proper way.
    """

    def __init__(self) -> None:
        #: Guards the two fields below. Before the combiner's lock and a
        #: member's in the lock order.
        self._lock = threading.Lock()
        #: Each member with the position of the first message that is for it.
        self._members: dict[WebSocket, int] = {}
        #: The same as a tuple, to go through outside the lock; None: to be made anew.
        self._snapshot: tuple[tuple[WebSocket, int], ...] | None = ()
        self._combiner: Combiner[_Outgoing] = Combiner(self._fan_out, max_weight=_MAX_QUEUED)
        #: Encodes for all. Its state is the baton holder's alone.
        self._encoder = Connection(ConnectionType.SERVER)

    def __repr__(self) -> str:
        return f"<Group of {len(self)}>"

    def __len__(self) -> int:
        with self._lock:
            return len(self._members)

    def __iter__(self) -> Iterator[WebSocket]:
        """The members of this moment, in the order of their coming."""
        with self._lock:
            return iter(tuple(self._members))

    def __contains__(self, websocket: object) -> bool:
        with self._lock:
            return websocket in self._members

    def add(self, websocket: WebSocket, greeting: Message | None = None) -> None:
        """Let ``websocket`` hear what is sent from now on; a member stays as it is.

        ``greeting`` is the first thing that a new member hears: once it has
        come, the client knows that it is in, and misses nothing from then on.

        Raises :class:`ValueError` for a client's end: its frames are masked
        one by one and cannot be shared (RFC 6455, section 5.3). A greeting may
        raise what :meth:`WebSocket.send` does; then it is no member.
        """
        if websocket.is_client:
            raise ValueError("a group is for a server's connections, this is a client's")
        written = Written.ACCEPTED
        with self._lock:
            if websocket in self._members:
                return
            if greeting is not None:
                # Under the lock: a fan-out that sees the new member begins
                # after it, so that nothing overtakes the greeting.
                written = websocket.offer(greeting)
            if written is Written.ACCEPTED:
                # What is queued by now was sent before it came. What is queued
                # from now on cannot be fanned out before this lock is free, and
                # then to the new member, too.
                self._members[websocket] = self._combiner.position
                self._snapshot = None
        websocket.act_on(written)

    def discard(self, websocket: WebSocket) -> None:
        """Let ``websocket`` hear no more; nothing if it is no member."""
        with self._lock:
            if self._members.pop(websocket, None) is not None:
                self._snapshot = None

    def send(self, message: Message, exclude: Iterable[WebSocket] = ()) -> None:
        """Send ``message`` to every member but those in ``exclude``.

        Never blocks on a member. Blocks while another thread has a full queue
        of messages in hand. Raises :class:`UnicodeEncodeError` for a lone
        surrogate and :class:`TypeError` for what is neither text nor bytes,
        before anybody has been sent anything.
        """
        self.send_many((message,), exclude)

    def send_many(self, messages: Iterable[Message], exclude: Iterable[WebSocket] = ()) -> None:
        """Send several messages, with no other's in between.

        As :meth:`send`, with one write a member for all of them.
        """
        self._submit(messages, frozenset(exclude), None)

    def send_to(self, websocket: WebSocket, message: Message) -> None:
        """Send ``message`` to one member, in its place among what all hear.

        ``websocket.send`` could overtake what another thread has in hand.
        Nothing for who is no member. Raises as :meth:`send` does.
        """
        self._submit((message,), frozenset(), websocket)

    def settle(self) -> None:
        """Block until all that was sent so far is on its way to the members.

        A ``send`` may return while another thread has the message in hand.
        Who closes a member and wants it to hear what was sent before, settles first.
        """
        self._combiner.settle()

    def _submit(
        self, messages: Iterable[Message], exclude: frozenset[WebSocket], only: WebSocket | None
    ) -> None:
        events = [event_of(message) for message in messages]
        if not events:
            return
        outgoing = [_Outgoing(event, size, exclude, only) for event, size in events]
        self._combiner.submit(outgoing, sum(size + _OVERHEAD for _, size in events))

    # With the baton: one thread at a time.

    def _fan_out(self, batch: list[_Outgoing], first: int) -> None:
        with self._lock:
            if self._snapshot is None:
                self._snapshot = tuple(self._members.items())
            members = self._snapshot
        closed: set[WebSocket] = set()
        for portion in _portions(batch):
            self._write(portion, first, members, closed)
            first += len(portion)
        for websocket in closed:
            self.discard(websocket)

    def _write(
        self,
        portion: list[_Outgoing],
        first: int,
        members: tuple[tuple[WebSocket, int], ...],
        closed: set[WebSocket],
    ) -> None:
        """One write a member; who takes no more is added to ``closed``."""
        frames = [bytes(self._encoder.send(outgoing.event)) for outgoing in portion]
        for_all = [f for f, outgoing in zip(frames, portion, strict=True) if outgoing.only is None]
        joined = b"".join(for_all)
        special = {outgoing.only for outgoing in portion}.union(
            *{outgoing.exclude for outgoing in portion}
        )
        for websocket, since in members:
            data, count = joined, len(for_all)
            if since > first or websocket in special:
                own = [
                    frames[at]
                    for at in range(max(0, since - first), len(frames))
                    if portion[at].is_for(websocket)
                ]
                data, count = b"".join(own), len(own)
            if count and not websocket.write_frames(data, count):
                closed.add(websocket)


def _portions(batch: list[_Outgoing]) -> Iterator[list[_Outgoing]]:
    """The batch in runs that one write may take."""
    portion: list[_Outgoing] = []
    size = 0
    for outgoing in batch:
        if portion and size + outgoing.size > _MAX_WRITE:
            yield portion
            portion, size = [], 0
        portion.append(outgoing)
        size += outgoing.size
    yield portion
