"""Sanitizing of received text, so that it is safe on a terminal, in a log and on a page."""

from __future__ import annotations

import re

__all__ = ["clean", "escape", "indent", "without_line_end"]

#: Characters that can control a terminal, reorder text, or hide text: C0 except newline
#: and tab, DEL, C1, bidirectional controls, line and paragraph separators, tag
#: characters. ZWJ and ZWNJ are allowed, since emoji and some scripts need them.
_HARMFUL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\U000e0000-\U000e007f]"
)

#: Those of them in ASCII.
_HARMFUL_ASCII = bytes([*range(9), *range(11, 32), 127])

_INDENT = "    "


def clean(text: str) -> str:
    r"""``text`` without harmful characters; newline and tab stay.

    ``\r\n`` becomes ``\n``, since a carriage return is harmful.
    """
    # Both shortcuts are several times as fast as the regular expression, and no harmful
    # character is printable, so that few texts need the expression.
    if text.isascii():
        raw = text.encode()
        kept = raw.translate(None, _HARMFUL_ASCII)
        return text if len(kept) == len(raw) else kept.decode()
    return text if text.isprintable() else _HARMFUL.sub("", text)


def without_line_end(text: str) -> str:
    r"""``text`` without one ``\n`` or ``\r\n`` at its end, which clients such as websocat send."""
    return text[:-1].removesuffix("\r") if text.endswith("\n") else text


def indent(text: str) -> str:
    """``text`` with indented continuation lines, so that none can look like another message.

    Each continuation line gets the same prefix before its own blanks, so that columns stay
    aligned. Apply it once, where a text becomes a line for people: texts of events are raw.
    """
    return text.replace("\n", "\n" + _INDENT)


def escape(text: str) -> str:
    """``text`` for one line of a log: escapes unprintable characters as ``repr`` does."""
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(char if char in "'\"" else repr(char)[1:-1] for char in text)
