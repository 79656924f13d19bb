"""The settings that all rooms of a server share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..metrics import Metrics
from ..net import Deadline
from .events import ClientLimits

__all__ = ["RoomSettings"]


@dataclass(frozen=True, slots=True)
class RoomSettings:
    """The settings that all rooms of a server share."""

    #: The operator's greeting for new clients, and format of a message.
    greeting: str
    format: str
    #: Whether the sender of a message receives it too.
    echo: bool
    #: Whether a room is told who joins, leaves, is renamed, or is away.
    notices: bool
    version: str
    limits: ClientLimits
    metrics: Metrics
    #: Calls a function at a moment, on the I/O thread: the function must not block.
    call_at: Callable[[Deadline, Callable[[], None]], None]
