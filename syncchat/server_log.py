"""What a chat server writes to its event log."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass

import msgspec

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
    masked,
)
from .net import Address, Follower, WebSocket, format_address

__all__ = ["PRIORITIES", "LogForm", "ServerLog"]

#: The priorities of syslog by the levels of :mod:`logging`: see sd-daemon(3).
PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3}


@dataclass(frozen=True, slots=True, kw_only=True)
class LogForm:
    """What is logged, and how."""

    log_json: bool = False
    log_level: int = logging.INFO
    log_messages: bool = True
    log_mask: bool = False
    log_priorities: bool = False


class ServerLog:
    """Gives each event to ``write``, line by line. From any thread; None for no log.

    ``form`` may be replaced at any time.
    """

    def __init__(self, write: Callable[[str], None] | None, form: LogForm) -> None:
        self._write = write
        self.form = form

    def __bool__(self) -> bool:
        return self._write is not None

    def note(self, event: LogEvent) -> None:
        """Write an event."""
        form = self.form
        if self._write is None or event.level < form.log_level:
            return
        if form.log_mask:
            named = {
                name: getattr(event, name, None) for name in ("client", "nick", "by", "target")
            }
            found = {name: masked(text) for name, text in named.items() if isinstance(text, str)}
            event = msgspec.structs.replace(event, **found)
        prefix = f"<{PRIORITIES[event.level]}>" if form.log_priorities else ""
        for line in (as_json if form.log_json else as_lines)(event):
            self._write(prefix + line)

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
        self.note(Received(address, nick, room, text if self.form.log_messages else None))

    def refused(self, address: Address, reason: str) -> None:
        """A client was refused in the handshake."""
        self.note(Refused(format_address(address), reason))

    def slow(self, client: WebSocket | Follower) -> None:
        """A client is disconnected that does not read."""
        self.note(Slow(format_address(client.remote_address), client.close_reason or ""))

    def deed(self, deed: Deed) -> None:
        """An operator has done something."""
        self.note(Moderated(**asdict(deed)))
