"""The user's preferences for the screen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

__all__ = ["BELLS", "Bell", "Preferences"]

#: When the terminal rings: never; for the user's nick and private messages; for every message.
Bell = Literal["off", "mention", "all"]

BELLS: tuple[Bell, ...] = get_args(Bell)


@dataclass
class Preferences:
    """Changed on the main thread, read by any thread.

    Each change replaces one attribute, which is atomic.
    """

    #: The prefix of each line from the server.
    prefix: str = ""
    #: One of ``style.COLOR_CHOICES``.
    color: str = "auto"
    bell: Bell = "mention"
    #: Whether lines begin with the time.
    timestamps: bool = False
