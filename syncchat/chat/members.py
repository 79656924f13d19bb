"""The members of a room: one by its nick, and all of a dialect at once for the fan-out."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence

from ..closecodes import ABNORMAL
from ..errors import ConnectionClosed
from ..net import Fanout, WebSocket, encode_frame, format_address
from .dialects import Dialect
from .events import Ack, FromServer, Message
from .nicks import is_address

__all__ = ["Member", "Members"]


class Member:
    """A client in the rooms of a server; it is in one room at a time.

    ``nick`` and ``address`` are sanitized. Only the room's combiner changes ``nick``. Any
    thread may read every attribute.
    """

    __slots__ = (
        "address",
        "away",
        "dialect",
        "greeted",
        "nick",
        "since",
        "spoke",
        "websocket",
        "whispered",
    )

    def __init__(self, websocket: WebSocket, dialect: Dialect) -> None:
        self.websocket = websocket
        self.dialect = dialect
        self.address = format_address(websocket.remote_address)
        self.nick = self.address
        #: Whether it has received the operator's greeting.
        self.greeted = False
        #: When it entered its room, and when it spoke there last; seconds since 1970.
        self.since = time.time()
        self.spoke: float | None = None
        #: Its reason to be away, empty for none; None: it is not away.
        self.away: str | None = None
        #: The sender of the last private message to it.
        self.whispered: str | None = None

    @property
    def chosen(self) -> str | None:
        """The nick that it has chosen; None: its nick is its address."""
        return None if is_address(self.nick) else self.nick

    def send(self, events: Iterable[FromServer]) -> None:
        """Send events outside of the room's order: only while it is in no room.

        Raises :class:`ConnectionClosed`.
        """
        frames = self.dialect.encode_all(events, self.nick)
        websocket = self.websocket
        if frames and not websocket.write_frames(b"".join(frames), len(frames)):
            raise ConnectionClosed(websocket.close_code or ABNORMAL, websocket.close_reason or "")


class Members:
    """The members of a room, and the fan-out of events to them.

    An event is encoded once for all members of a dialect. Only the room's combiner may call
    the methods, except ``len`` and ``find``, which any thread may call.
    """

    def __init__(self) -> None:
        #: By their casefolded nicks, in the order in which they joined.
        self._by_nick: dict[str, Member] = {}
        #: The connections of the members, by the dialects that they use.
        self._fanouts: dict[Dialect, Fanout] = {}

    def __len__(self) -> int:
        return len(self._by_nick)

    def __iter__(self) -> Iterator[Member]:
        return iter(tuple(self._by_nick.values()))

    def find(self, nick: str) -> Member | None:
        """The member of this nick, compared by casefold; None: there is no such member."""
        return self._by_nick.get(nick.casefold())

    def away(self) -> list[str]:
        """The nicks of the members that are away, sorted without regard to case."""
        away = (member.nick for member in self._by_nick.values() if member.away is not None)
        return sorted(away, key=str.casefold)

    def add(self, member: Member) -> None:
        """Add ``member``: it gets every later event."""
        self._by_nick[member.nick.casefold()] = member
        self._fanouts.setdefault(member.dialect, Fanout()).add(member.websocket)

    def discard(self, member: Member) -> None:
        """Remove ``member``. Has no effect if it is not one."""
        self._by_nick.pop(member.nick.casefold(), None)
        fanout = self._fanouts.get(member.dialect)
        if fanout is not None:
            fanout.discard(member.websocket)
            if not fanout:
                del self._fanouts[member.dialect]

    def rename(self, member: Member, nick: str) -> None:
        """Give ``member`` another nick."""
        self._by_nick.pop(member.nick.casefold(), None)
        member.nick = nick
        self._by_nick[nick.casefold()] = member

    # The fan-out.

    def tell(self, events: Sequence[FromServer], but: Member | None = None) -> None:
        """Send events to all members but ``but``."""
        special = None if but is None else {but.websocket: ()}
        for dialect, fanout in self._fanouts.items():
            frames: list[bytes] = []
            for event in events:
                frames += dialect.encode(event, "")
            fanout.write(frames, special)

    def tell_others(self, messages: Sequence[Message]) -> None:
        """Send messages to all members; a sender gets an acknowledgement of its own instead."""
        found = (self.find(nick) for nick in {message.nick for message in messages})
        senders = [member for member in found if member is not None]
        for dialect, fanout in self._fanouts.items():
            frames = [dialect.encode(message, "") for message in messages]
            special: dict[WebSocket, list[bytes]] = {}
            for sender in senders:
                if sender.dialect is dialect:
                    own = special[sender.websocket] = []
                    for message, usual in zip(messages, frames, strict=True):
                        if message.nick != sender.nick:
                            own += usual
                        elif message.nonce is not None:
                            own += dialect.encode(Ack(message.nonce, message.offset), "")
            fanout.write([frame for usual in frames for frame in usual], special)

    def tell_one(self, member: Member, *events: FromServer) -> None:
        """Send events to one member, or to a client that is about to become one."""
        dialect = member.dialect
        self._write_one(member, dialect.encode_all(events, member.nick))

    def send_one(self, member: Member, text: str) -> None:
        """Send one member a text of its dialect."""
        self._write_one(member, [encode_frame(text.encode())])

    @staticmethod
    def _write_one(member: Member, frames: Sequence[bytes]) -> None:
        if frames:
            # If the connection is closed, its session is about to leave.
            member.websocket.write_frames(b"".join(frames), len(frames))
