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

from wsproto.frame_protocol import FrameProtocol

from .combining import Combiner
from .messages import Message, checked
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
        #: The same as a tuple, to go through outside the lock; None: to be made anew.
        self._snapshot: tuple[tuple[WebSocket, int], ...] | None = ()
        #: The highest of the positions.
        self._newest = 0
        self._combiner: Combiner[_Outgoing] = Combiner(self._fan_out, max_weight=_MAX_QUEUED)
        #: Encodes for all. Its state is the baton holder's alone.
        self._encoder = FrameProtocol(client=False, extensions=[])

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
                self._members[websocket] = self._newest = self._combiner.position
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
        outgoing: list[_Outgoing] = []
        weight = 0
        for each in messages:
            message, size = checked(each)
            outgoing.append(_Addressed(message, exclude, only) if exclude or only else message)
            weight += size + _OVERHEAD
        if outgoing:
            self._combiner.submit(outgoing, weight)

    # With the baton: one thread at a time.

    def _fan_out(self, batch: list[_Outgoing], first: int) -> None:
        with self._lock:
            if self._snapshot is None:
                self._snapshot = tuple(self._members.items())
            members, newest = self._snapshot, self._newest
        for_all = not any(isinstance(outgoing, _Addressed) for outgoing in batch)
        encode = self._encoder.send_data
        frames = [
            encode(outgoing.message if isinstance(outgoing, _Addressed) else outgoing)
            for outgoing in batch
        ]
        closed: set[WebSocket] = set()
        for begin, end in _portions(frames):
            if for_all and newest <= first:
                data, count = b"".join(frames[begin:end]), end - begin
                for websocket, _ in members:
                    if not websocket.write_frames(data, count):
                        closed.add(websocket)
            else:
                _write_each(batch[begin:end], frames[begin:end], first + begin, members, closed)
        for websocket in closed:
            self.discard(websocket)


def _write_each(
    batch: list[_Outgoing],
    frames: list[bytearray],
    first: int,
    members: tuple[tuple[WebSocket, int], ...],
    closed: set[WebSocket],
) -> None:
    """One write a member, of what is for it; who takes no more is added to ``closed``."""
    addressed = [outgoing for outgoing in batch if isinstance(outgoing, _Addressed)]
    special = {outgoing.only for outgoing in addressed}.union(
        *(outgoing.exclude for outgoing in addressed)
    )
    usual = [
        frame
        for frame, outgoing in zip(frames, batch, strict=True)
        if not isinstance(outgoing, _Addressed) or outgoing.only is None
    ]
    joined = b"".join(usual)
    for websocket, since in members:
        data, count = joined, len(usual)
        if since > first or websocket in special:
            own = [
                frames[at]
                for at, outgoing in enumerate(batch)
                if first + at >= since
                and (not isinstance(outgoing, _Addressed) or outgoing.is_for(websocket))
            ]
            data, count = b"".join(own), len(own)
        if count and not websocket.write_frames(data, count):
            closed.add(websocket)


def _portions(frames: list[bytearray]) -> Iterator[tuple[int, int]]:
    """From where to where a single write goes, for all of ``frames``."""
    begin = size = 0
    for at, frame in enumerate(frames):
        if size and size + len(frame) > _MAX_WRITE:
            yield begin, at
            begin, size = at, 0
        size += len(frame)
    yield begin, len(frames)
