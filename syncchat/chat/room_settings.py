"""The settings that all rooms of a server share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..net import Deadline
from .directory import Directory
from .events import Welcome
from .watching import Watches

__all__ = ["RoomSettings"]


@dataclass(frozen=True, slots=True)
class RoomSettings:
    """The settings that all rooms of a server share."""

    #: People, and what operators have decided.
    directory: Directory
    #: Whether guests may only read.
    guests_read: bool
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
