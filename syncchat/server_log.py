"""What a chat server writes to its event log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

from .chat.members import Member
from .chat.moderation import Deed
from .eventlog import (
    ClientConnected,
    ClientDisconnected,
    LogEvent,
    Moderated,
    Received,
    Refused,
    Slow,
    as_json,
    as_lines,
)
from .net import Address, Follower, WebSocket, format_address

__all__ = ["ServerLog"]


class ServerLog:
    """Gives each event to ``write``, line by line. From any thread; None for no log."""

    def __init__(self, write: Callable[[str], None] | None, *, is_json: bool) -> None:
        self._write = write
        self._lines_of = as_json if is_json else as_lines

    def __bool__(self) -> bool:
        return self._write is not None

    def note(self, event: LogEvent) -> None:
        """Write an event."""
        if self._write is not None:
            for line in self._lines_of(event):
                self._write(line)

    def connected(self, client: str) -> None:
        """A client has come."""
        self.note(ClientConnected(client))

    def disconnected(self, client: str) -> None:
        """A client has gone."""
        self.note(ClientDisconnected(client))

    def message(self, member: Member, room: str, text: str) -> None:
        """A member has said something."""
        self.posted(member.address, member.nick, room, text)

    def posted(self, address: str, nick: str, room: str, text: str) -> None:
        """Somebody has said something, in a room or over HTTP."""
        self.note(Received(address, nick, room, text))

    def refused(self, address: Address, reason: str) -> None:
        """A client was refused in the handshake."""
        self.note(Refused(format_address(address), reason))

    def slow(self, client: WebSocket | Follower) -> None:
        """A client is disconnected that does not read."""
        self.note(Slow(format_address(client.remote_address), client.close_reason or ""))

    def deed(self, deed: Deed) -> None:
        """An operator has done something."""
        self.note(Moderated(**asdict(deed)))
