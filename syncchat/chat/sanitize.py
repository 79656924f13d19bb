"""Text from strangers: what may reach a terminal, a log, or another's screen."""

from __future__ import annotations

import re

__all__ = ["clean", "escape", "indent", "without_line_end"]

#: What can drive a terminal, reorder what is read, or hide: C0 but newline and
#: tab, DEL, C1, bidirectional controls, line and paragraph separators, tag
#: characters. ZWJ and ZWNJ stay, which emoji and whole scripts need.
_HARMFUL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\U000e0000-\U000e007f]"
)

#: Those of them that are ASCII.
_HARMFUL_ASCII = bytes([*range(9), *range(11, 32), 127])

_INDENT = "    "


def clean(text: str) -> str:
    r"""``text`` without characters that could do harm; newline and tab stay.

    ``\r\n`` becomes ``\n``, since a carriage return is among the harmful.
    """
    # Both shortcuts are several times as fast as the expression, which few
    # texts need: nothing of the harmful is printable.
    if text.isascii():
        raw = text.encode()
        kept = raw.translate(None, _HARMFUL_ASCII)
        return text if len(kept) == len(raw) else kept.decode()
    return text if text.isprintable() else _HARMFUL.sub("", text)


def without_line_end(text: str) -> str:
    r"""``text`` without one ``\n`` or ``\r\n`` at its end, as clients such as websocat send it."""
    return text[:-1].removesuffix("\r") if text.endswith("\n") else text


def indent(text: str) -> str:
    """``text`` with its continuation lines indented, so that none can pose as a line of its own.

    Each gets the same prefix before its own blanks, so that their columns stay in proportion.
    To be applied once, where a text becomes a line for people: texts of events are raw.
    """
    return text.replace("\n", "\n" + _INDENT)


def escape(text: str) -> str:
    """``text`` for one line of a log: what cannot be printed is escaped as ``repr`` does."""
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(char if char in "'\"" else repr(char)[1:-1] for char in text)
