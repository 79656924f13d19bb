"""Notifications on the desktop, as some terminals show them."""

from __future__ import annotations

import os

__all__ = ["notification"]

#: Terminals that know OSC 777 and not OSC 9, by the beginning of ``TERM``.
_KNOW_777 = ("rxvt", "foot")


def notification(line: str) -> str:
    """Return the escape sequence that shows ``line``, which must be safe for a terminal.

    Terminals that do not know the sequence ignore it. OSC 9 (iTerm2, kitty, WezTerm,
    Windows Terminal) has a text; OSC 777 (foot, rxvt, VTE) has a title and a text.
    """
    if os.environ.get("TERM", "").startswith(_KNOW_777) or "VTE_VERSION" in os.environ:
        # A semicolon would end the text.
        return f"\x1b]777;notify;syncchat;{line.replace(';', ',')}\x1b\\"
    # A text that begins with a number and a semicolon would be another command.
    return f"\x1b]9;syncchat: {line}\x1b\\"
