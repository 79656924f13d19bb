"""How somebody likes the screen to be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

__all__ = ["BELLS", "Bell", "Preferences"]

#: When the terminal rings: never, for one's own name and private messages, for all.
Bell = Literal["off", "mention", "all"]

BELLS: tuple[Bell, ...] = get_args(Bell)


@dataclass
class Preferences:
    """Changed on the main thread, and read from any: each is one word that is replaced."""

    #: What goes before each line from the server.
    prefix: str = ""
    #: Of ``style.COLOR_CHOICES``.
    color: str = "auto"
    bell: Bell = "mention"
    #: Whether lines begin with the time.
    timestamps: bool = False
