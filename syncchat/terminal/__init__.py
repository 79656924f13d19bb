"""The terminal client: shows a prompt at a capable terminal, and works as a filter elsewhere."""

from __future__ import annotations

import sys

from prompt_toolkit.utils import is_dumb_terminal

from .keeper import Keeper
from .pipe import run_pipe
from .rooms import CATCH_UP
from .screen import run_screen
from .snapshot import BELLS, Preferences
from .style import COLOR_CHOICES

__all__ = [
    "BELLS",
    "CATCH_UP",
    "COLOR_CHOICES",
    "Keeper",
    "Preferences",
    "is_interactive",
    "run_pipe",
    "run_screen",
]


def is_interactive() -> bool:
    """Whether standard input and output are a terminal that can show a prompt."""
    return sys.stdin.isatty() and sys.stdout.isatty() and not is_dumb_terminal()
