"""What all rooms of a server have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..metrics import Metrics
from ..net import Deadline
from .dialects import Dialect
from .events import Limits

__all__ = ["RoomSettings"]


@dataclass(frozen=True, slots=True)
class RoomSettings:
    """What all rooms of a server have in common."""

    dialects: Sequence[Dialect]
    #: The operator's words to who enters, and way to show a message.
    greeting: str
    format: str
    #: Whether who says something hears it, too.
    echo: bool
    #: Whether the room is told who comes, goes, and is called otherwise.
    notices: bool
    version: str
    limits: Limits
    metrics: Metrics
    #: Runs something at a moment, on a thread that must not be held up.
    call_at: Callable[[Deadline, Callable[[], None]], None]
