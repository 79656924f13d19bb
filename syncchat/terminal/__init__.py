"""The terminal client: a prompt where there is a terminal that can show one, else a filter."""

from __future__ import annotations

import sys

from prompt_toolkit.utils import is_dumb_terminal

from ..client import Client
from .pipe import run_pipe
from .screen import run_screen

__all__ = ["is_interactive", "run_client"]


def is_interactive() -> bool:
    """Whether there is a terminal that can show a prompt."""
    return sys.stdin.isatty() and sys.stdout.isatty() and not is_dumb_terminal()


def run_client(client: Client, prefix: str) -> int:
    """Let ``client``, which is connected, talk with the terminal. Returns the exit code.

    ``prefix`` goes before each line from the server. On the main thread only.
    """
    return run_screen(client, prefix) if is_interactive() else run_pipe(client, prefix)
