"""A fan-out, and a group: a fan-out with a queue before it, for any number of threads.

In a fan-out, a message is encoded once, and each member gets a batch in one write. The
queue of a group gives the messages of all threads one order, and joins them to batches. The
group's lock makes joining exact: it guards the members, and from which message on each
of them listens.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from .backlog import Written
from .combining_queue import CombiningQueue
from .protocol import Message, checked, encode_frame
from .websocket import WebSocket

__all__ = ["Fanout", "Group", "Recipient"]

#: Bytes of queued messages above which publishers block.
_MAX_QUEUED = 1024 * 1024

#: Bytes that a queued message takes in addition to its payload.
_OVERHEAD = 200

#: Bytes of joined frames in one write to a member. Small compared to a member's
#: maximum backlog, so that a large batch alone makes no member a slow consumer.
_MAX_WRITE = 256 * 1024


class Recipient(Protocol):
    """What a fan-out needs of a connection: a :class:`WebSocket`, or a :class:`Follower`."""

    def write_frames(self, frames: bytes, messages: int) -> bool:
        """Send encoded messages; never blocks. False: the connection accepts no more."""


#: The connections of a fan-out.
To = TypeVar("To", bound=Recipient)


class Fanout(Generic[To]):
    """The connections that receive the same frames. Only one thread at a time may use it.

    The owner sees to that: a :class:`~syncchat.net.Group` by a lock, another owner by
    using it only as the combiner of a :class:`~syncchat.net.CombiningQueue`.
    """

    def __init__(self) -> None:
        #: In the order in which they were added.
        self._members: dict[To, None] = {}
        #: The members for a faster loop, and for one without the owner's lock. None: they
        #: have changed.
        self._snapshot: tuple[To, ...] | None = ()

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, websocket: object) -> bool:
        return websocket in self._members

    @property
    def members(self) -> tuple[To, ...]:
        """The current members, in the order in which they were added."""
        if self._snapshot is None:
            self._snapshot = tuple(self._members)
        return self._snapshot

    def add(self, websocket: To) -> None:
        """Add a server's connection as a member. Has no effect if it is one."""
        self._members[websocket] = None
        self._snapshot = None

    def discard(self, websocket: To) -> None:
        """Remove a member. Has no effect if it is not one."""
        if websocket in self._members:
            del self._members[websocket]
            self._snapshot = None

    def write(
        self,
        frames: Sequence[bytes],
        special: Mapping[To, Sequence[bytes]] | None = None,
        members: Sequence[To] | None = None,
    ) -> list[To]:
        """Write ``frames`` to every member, and never wait for one of them.

        ``special`` maps some connections to the frames that they get instead. ``members``:
        a snapshot to use, so that other threads may change the members meanwhile. Returns the
        connections that accept no more data; discard them.
        """
        if members is None:
            if self._snapshot is None:
                self._snapshot = tuple(self._members)
            members = self._snapshot
        closed: list[To] = []
        if special:
            for websocket, own in special.items():
                closed += self.write(own, members=(websocket,))
            members = [websocket for websocket in members if websocket not in special]
        for data, count in ((frames[0], 1),) if len(frames) == 1 else _joined(frames):
            for websocket in members:
                if not websocket.write_frames(data, count):
                    closed.append(websocket)
        return closed


def _joined(frames: Sequence[bytes]) -> Iterator[tuple[bytes, int]]:
    """The frames joined into writes, and the number of frames in each write."""
    begin = size = 0
    for at, frame in enumerate(frames):
        if size and size + len(frame) > _MAX_WRITE:
            yield b"".join(frames[begin:at]), at - begin
            begin, size = at, 0
        size += len(frame)
    if begin < len(frames):
        yield b"".join(frames[begin:]), len(frames) - begin


@dataclass(slots=True)
class _Addressed:
    """A queued message that does not go to all members."""

    message: Message
    exclude: frozenset[WebSocket]
    #: The only recipient. None: all members that are not excluded.
    only: WebSocket | None

    def is_for(self, websocket: WebSocket) -> bool:
        """Whether this member receives the message."""
        return websocket not in self.exclude and self.only in (None, websocket)


#: An item of the queue. A plain message goes to all members.
_Outgoing = str | bytes | _Addressed


class Group:
    """Connections that receive the same messages in the same order.

    Every method may be called from any thread, whether or not the thread serves a
    connection. A member receives each message whose ``send`` began after the
    member's ``add`` returned, and no message whose ``send`` returned before
    ``add`` began. The group removes a closed member at the next message, but you
    should call ``discard`` when a handler ends.
    """

    def __init__(self) -> None:
        #: Guards the two fields below. In the lock order it comes before the
        #: lock of the combining queue and before a member's lock.
        self._lock = threading.Lock()
        self._fanout: Fanout[WebSocket] = Fanout()
        #: Members that were added while earlier messages were queued, with the position of
        #: the first message that each of them receives.
        self._late: dict[WebSocket, int] = {}
        self._queue: CombiningQueue[_Outgoing] = CombiningQueue(
            self._fan_out, max_weight=_MAX_QUEUED
        )

    def __repr__(self) -> str:
        return f"<Group of {len(self)}>"

    def __len__(self) -> int:
        with self._lock:
            return len(self._fanout)

    def __iter__(self) -> Iterator[WebSocket]:
        """The current members, in the order in which they were added."""
        with self._lock:
            return iter(self._fanout.members)

    def __contains__(self, websocket: object) -> bool:
        with self._lock:
            return websocket in self._fanout

    def add(self, websocket: WebSocket, greeting: Message | None = None) -> None:
        """Add a member, which receives all messages that are sent from now on.

        Has no effect if ``websocket`` is a member. ``greeting`` is the first
        message that a new member receives. A client that has received it misses
        no later message.

        Raises :class:`ValueError` for the client side of a connection: its frames
        are masked one by one and cannot be shared (RFC 6455, section 5.3). With a
        greeting, raises as :meth:`WebSocket.send` does; then nothing is added.
        """
        if websocket.is_client:
            raise ValueError("a group accepts a server's connections only, not a client's")
        written = Written.ACCEPTED
        with self._lock:
            if websocket in self._fanout:
                return
            # Before the greeting: the client may answer at once, and its answer be queued.
            since = self._queue.position
            if greeting is not None:
                # Send it under the lock: a fan-out that includes the new member
                # starts after the lock is released, so no message overtakes the
                # greeting.
                written = websocket.offer(greeting)
            if written is Written.ACCEPTED:
                # Messages in the queue were sent before this add(). A message
                # that is queued from now on is fanned out after this lock is
                # released, so the new member receives it.
                self._fanout.add(websocket)
                self._late[websocket] = since
        websocket.act_on(written)

    def discard(self, websocket: WebSocket) -> None:
        """Remove a member. Has no effect if ``websocket`` is not a member."""
        with self._lock:
            self._fanout.discard(websocket)
            self._late.pop(websocket, None)

    def send(self, message: Message, exclude: Iterable[WebSocket] = ()) -> None:
        """Send ``message`` to every member except those in ``exclude``.

        Never waits for a member. May wait for another thread that is sending
        queued messages: while the queue is full, or to take over from that thread.
        Raises :class:`UnicodeEncodeError` for a lone surrogate and
        :class:`TypeError` for a message that is neither text nor bytes, before
        anything is sent to any member.
        """
        self.send_many((message,), exclude)

    def send_many(self, messages: Iterable[Message], exclude: Iterable[WebSocket] = ()) -> None:
        """Send several messages, with no other message in between.

        Works as :meth:`send`, but writes all of them to a member together.
        """
        self._submit(messages, frozenset(exclude), None)

    def send_to(self, websocket: WebSocket, message: Message) -> None:
        """Send ``message`` to one member, in order with the messages to all members.

        ``websocket.send`` could overtake messages that another thread is sending.
        Has no effect if ``websocket`` is not a member. Raises as :meth:`send` does.
        """
        self._submit((message,), frozenset(), websocket)

    def drain(self) -> None:
        """Block until all messages sent so far are written or queued for the members.

        ``send`` may return while another thread is still sending the message. Call
        drain() before you close a member that must receive earlier messages.
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

    # Only the combiner calls this, so it runs on one thread at a time.

    def _fan_out(self, batch: list[_Outgoing], first: int) -> None:
        addressed = [outgoing for outgoing in batch if isinstance(outgoing, _Addressed)]
        with self._lock:
            members = self._fanout.members
            if self._late:
                self._late = {one: since for one, since in self._late.items() if since > first}
            # Members that do not receive the whole batch, with the position of
            # the first message that each of them may receive.
            partly = dict(self._late)
            for outgoing in addressed:
                for one in (*outgoing.exclude, outgoing.only):
                    if one is not None and one in self._fanout:
                        partly.setdefault(one, first)
        frames = [_frame(outgoing) for outgoing in batch]
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
        for websocket in self._fanout.write(frames, special, members):
            self.discard(websocket)


def _frame(outgoing: _Outgoing) -> bytes:
    message = outgoing.message if isinstance(outgoing, _Addressed) else outgoing
    if isinstance(message, str):
        return encode_frame(message.encode())
    return encode_frame(message, binary=True)
