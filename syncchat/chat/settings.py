"""The settings that all rooms of a server share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypedDict

from ..metrics import Metrics
from ..net import Deadline
from .events import ClientLimits

__all__ = ["DEFAULT_FORMAT", "DEFAULT_GREETING", "ChatSettings", "RoomSettings"]

DEFAULT_GREETING = "Welcome to chat! Type a message"
DEFAULT_FORMAT = "{sender}: {text}"


class ChatSettings(TypedDict, total=False):
    """What the operator of a server decides for its rooms.

    - ``greeting``: the first message to a new client; empty for none. A client that
      has received the greeting receives every later message of the room.
    - ``format``: how a message is shown, with ``{sender}`` and ``{text}``.
    - ``echo``: whether the sender of a message receives it too; True by default.
    - ``notices``: whether a room is told who joins, leaves, is renamed, or is away; True by
      default.
    """

    greeting: str
    format: str
    echo: bool
    notices: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomSettings:
    """The operator's :class:`ChatSettings`, and what the rooms need of the server."""

    greeting: str = DEFAULT_GREETING
    format: str = DEFAULT_FORMAT
    echo: bool = True
    notices: bool = True
    version: str
    limits: ClientLimits
    metrics: Metrics
    #: Calls a function at a moment, on the I/O thread: the function must not block.
    call_at: Callable[[Deadline, Callable[[], None]], None]
