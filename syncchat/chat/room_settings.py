"""The settings that all rooms of a server share, and the welcome that follows from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from ..net import Deadline
from .directory import Directory
from .events import Welcome
from .hooks import ReadOnly
from .members import Member
from .watching import Watches

__all__ = ["RoomSettings"]


@dataclass(frozen=True, slots=True)
class RoomSettings:
    """The settings that all rooms of a server share."""

    #: People, and what operators have decided.
    directory: Directory
    #: Messages per second that are read from a robot; 0: no limit.
    robot_rate: float
    #: The welcome for a new client, without what depends on the room and the client.
    welcome: Welcome
    #: Whether the sender of a message receives it too.
    echo: bool
    #: Called with each stored batch: the seconds from each message's arrival to its delivery.
    on_batch: Callable[[Sequence[float]], None]
    #: Calls a function at a moment, on the I/O thread: the function must not block.
    call_at: Callable[[Deadline, Callable[[], None]], None]
    #: Who watches which rooms.
    watches: Watches
    #: Who may not speak, by the server's own settings.
    read_only: ReadOnly

    def welcome_to(self, room: str, member: Member) -> Welcome:
        """The welcome, with what operators have decided for the room."""
        rules = self.directory.rules
        return msgspec.structs.replace(
            self.welcome,
            room=room,
            topic=rules.topic(room).text,
            motd="" if member.greeted else rules.motd,
            read_only=bool(self.read_only.silences(room, member.websocket.request))
            or rules.is_closed_to(room, member.person),
            operator=rules.is_operator(member.person, room),
        )
