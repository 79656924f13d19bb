"""The members of a room that use the same dialect: an event is encoded once for all of them."""

from __future__ import annotations

from collections.abc import Sequence

from ..net import WebSocket
from ..net.fanout import Fanout
from .dialects import Dialect
from .events import Ack, FromServer, Message
from .member import Member

__all__ = ["Subscribers"]


class Subscribers:
    """The members that use ``dialect``. For one thread at a time: the room's combiner."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._fanout = Fanout()
        #: In the order in which they joined.
        self._members: dict[WebSocket, None] = {}
        #: The same members for a faster loop; None: they have changed.
        self._websockets: tuple[WebSocket, ...] | None = ()

    def add(self, member: Member) -> None:
        """Add ``member``: it gets every later event."""
        self._members[member.websocket] = None
        self._websockets = None

    def discard(self, websocket: WebSocket) -> None:
        """Remove a member. Does nothing if it is not one."""
        self._members.pop(websocket, None)
        self._websockets = None

    def tell(self, told: Sequence[FromServer], but: Member | None = None) -> None:
        """Send the same events to all members but ``but``."""
        if self._members:
            special: dict[WebSocket, list[bytearray]] = {}
            if but is not None and but.websocket in self._members:
                special[but.websocket] = []
            write = self._dialect.write
            texts = [text for event in told for text in write(event, "")]
            self._write(self._fanout.encode(texts), special)

    def tell_others(self, messages: Sequence[Message], senders: Sequence[Member]) -> None:
        """Send messages to all members; a sender gets an acknowledgement of its own instead."""
        if not self._members:
            return
        frames = [self._frames(message) for message in messages]
        special: dict[WebSocket, list[bytearray]] = {}
        for sender in senders:
            if sender.websocket in self._members:
                own = special[sender.websocket] = []
                for message, usual in zip(messages, frames, strict=True):
                    own += self._ack(message) if message.nick == sender.nick else usual
        self._write([frame for usual in frames for frame in usual], special)

    def tell_one(self, member: Member, told: Sequence[FromServer]) -> None:
        """Send events to one member, or to a client that is about to become one."""
        write = self._dialect.write
        self.send_one(member, [text for event in told for text in write(event, member.nick)])

    def send_one(self, member: Member, texts: Sequence[str]) -> None:
        """Send texts of the dialect to one member."""
        for websocket in self._fanout.write((member.websocket,), self._fanout.encode(texts)):
            self.discard(websocket)

    def _ack(self, message: Message) -> list[bytearray]:
        if message.nonce is None:
            return []
        return self._frames(Ack(message.nonce, message.offset))

    def _frames(self, event: FromServer) -> list[bytearray]:
        return self._fanout.encode(self._dialect.write(event, ""))

    def _write(self, frames: list[bytearray], special: dict[WebSocket, list[bytearray]]) -> None:
        if self._websockets is None:
            self._websockets = tuple(self._members)
        for websocket in self._fanout.write(self._websockets, frames, special):
            self.discard(websocket)
