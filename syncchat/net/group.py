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

from .combining_queue import CombiningQueue
from .fanout import Fanout
from .messages import Message, checked
from .outlet import Written
from .websocket import WebSocket

__all__ = ["Group"]

#: Bytes of messages that may wait for a fan-out before publishers do.
_MAX_QUEUED = 1024 * 1024

#: Bytes that a message takes in the queue besides its own.
_OVERHEAD = 200


@dataclass(slots=True)
class _Addressed:
    """A message in the queue that is not for everybody."""

    message: Message
    exclude: frozenset[WebSocket]
    #: The one member that it is for, if it is not for all others.
    only: WebSocket | None

    def is_for(self, websocket: WebSocket) -> bool:
        """Whether this member is to hear it."""
        return websocket not in self.exclude and self.only in (None, websocket)


#: What waits in the queue. A message for everybody stands for itself.
_Outgoing = str | bytes | _Addressed


class Group:
    """The connections that hear the same messages, in the same order.

    Every method may be called from any thread, whether or not it serves a
    connection. A member hears each message whose ``send`` began after the
    member's ``add`` had returned, and none whose ``send`` had returned before
    ``add`` began. Members that are closed drop out by themselves at the
    next message, but ``discard`` is the proper way.
    """

    def __init__(self) -> None:
        #: Guards the three fields below. Before the combiner's lock and a
        #: member's in the lock order.
        self._lock = threading.Lock()
        #: Each member with the position of the first message that is for it.
        self._members: dict[WebSocket, int] = {}
        #: Who they are, to go through outside the lock; None: to be made anew.
        self._snapshot: tuple[WebSocket, ...] | None = ()
        #: The highest of the positions.
        self._newest = 0
        self._queue: CombiningQueue[_Outgoing] = CombiningQueue(
            self._fan_out, max_weight=_MAX_QUEUED
        )
        #: The baton holder's alone.
        self._fanout = Fanout()

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
                self._members[websocket] = self._newest = self._queue.position
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

    def drain(self) -> None:
        """Block until all that was sent so far is on its way to the members.

        A ``send`` may return while another thread has the message in hand.
        Who closes a member and wants it to hear what was sent before, settles first.
        """
        self._queue.drain()

    def _submit(
        self, messages: Iterable[Message], exclude: frozenset[WebSocket], only: WebSocket | None
    ) -> None:
        outgoing: list[_Outgoing] = []
        weight = 0
        for each in messages:
            message, size = checked(each)
            outgoing.append(_Addressed(message, exclude, only) if exclude or only else message)
            weight += size + _OVERHEAD
        if outgoing:
            self._queue.submit(outgoing, weight)

    # With the baton: one thread at a time.

    def _fan_out(self, batch: list[_Outgoing], first: int) -> None:
        addressed = [outgoing for outgoing in batch if isinstance(outgoing, _Addressed)]
        with self._lock:
            if self._snapshot is None:
                self._snapshot = tuple(self._members)
            members = self._snapshot
            # Who is not to hear all of it, and from which message on it may.
            partly: dict[WebSocket, int] = {}
            if self._newest > first:
                partly = {one: since for one, since in self._members.items() if since > first}
            for outgoing in addressed:
                for one in (*outgoing.exclude, outgoing.only):
                    if one is not None and one in self._members:
                        partly[one] = self._members[one]
        frames = self._fanout.encode(
            outgoing.message if isinstance(outgoing, _Addressed) else outgoing for outgoing in batch
        )
        special = {
            one: [
                frame
                for at, (outgoing, frame) in enumerate(zip(batch, frames, strict=True), first)
                if at >= since and (not isinstance(outgoing, _Addressed) or outgoing.is_for(one))
            ]
            for one, since in partly.items()
        }
        if addressed:
            frames = [
                frame
                for outgoing, frame in zip(batch, frames, strict=True)
                if not isinstance(outgoing, _Addressed) or outgoing.only is None
            ]
        for websocket in self._fanout.write(members, frames, special):
            self.discard(websocket)
