"""The members of a room who speak one dialect: what they are told is encoded once for all."""

from __future__ import annotations

from collections.abc import Sequence

from ..net import WebSocket
from ..net.fanout import Fanout
from .dialects import Dialect
from .events import Ack, FromServer, Message
from .member import Member

__all__ = ["Subscribers"]


class Subscribers:
    """For one thread at a time: the holder of the room's baton."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._fanout = Fanout()
        #: In the order of their coming.
        self._members: dict[WebSocket, None] = {}
        #: The same to go through; None: to be made anew.
        self._websockets: tuple[WebSocket, ...] | None = ()

    def add(self, member: Member) -> None:
        """Let ``member`` hear what is told from now on."""
        self._members[member.websocket] = None
        self._websockets = None

    def discard(self, websocket: WebSocket) -> None:
        """Let it hear no more; nothing if it is no member."""
        self._members.pop(websocket, None)
        self._websockets = None

    def tell(self, told: Sequence[FromServer], but: Member | None = None) -> None:
        """Let everybody have the same events, except for one."""
        if self._members:
            special: dict[WebSocket, list[bytearray]] = {}
            if but is not None and but.websocket in self._members:
                special[but.websocket] = []
            write = self._dialect.write
            texts = [text for event in told for text in write(event, "")]
            self._write(self._fanout.encode(texts), special)

    def tell_others(self, messages: Sequence[Message], senders: Sequence[Member]) -> None:
        """Let everybody have the messages but their senders, who get acknowledgements."""
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
        """Let one member have events, or somebody who is about to be one."""
        write = self._dialect.write
        self.send_one(member, [text for event in told for text in write(event, member.nick)])

    def send_one(self, member: Member, texts: Sequence[str]) -> None:
        """Send one member texts of its dialect."""
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
