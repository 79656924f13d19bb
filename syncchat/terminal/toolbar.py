"""The line below the prompt: the room, the nick and the state of the connection."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..client import Client
from .people import People
from .sanitize import name_for_screen
from .wrapping import Fragment, shorten, width_of

__all__ = ["candidates_line", "status_line"]

_BETWEEN = " | "

#: Seconds without an answer from which the toolbar shows the delay.
_LONG = 3.0


def status_line(
    client: Client,
    people: People,
    columns: int,
    *,
    latency: float | None,
    silence: float,
    away: bool,
) -> list[Fragment]:
    """Format the state. If ``columns`` are too few, leaves out the least important parts.

    ``latency`` is the last round trip. ``silence`` is how long the current ping has
    been unanswered. Both are in seconds.
    """
    state, warning = _connection(client, silence)
    unsent = client.unacknowledged
    nick = name_for_screen(client.nick or "")
    # The text, the importance (the lowest is left out first), and the style.
    parts = [
        (name_for_screen(client.room or ""), 5, ""),
        (f"{nick} (away)" if away else nick, 3, ""),
        (f"{people.count} here" if client.connected and people.count else "", 2, ""),
        (state, 6, "class:toolbar.warning" if warning else ""),
        (_milliseconds(latency) if not warning else "", 1, ""),
        (f"{unsent} unsent" if unsent else "", 4, "class:toolbar.warning"),
    ]
    parts = [part for part in parts if part[0]]
    while len(parts) > 1 and _width(parts) > columns:
        parts.remove(min(parts, key=lambda part: part[1]))
    shown: list[Fragment] = [("", " ")]
    for text, _, style in parts:
        shown += [(style, shorten(text, columns - 2)), ("", _BETWEEN)]
    shown[-1] = ("", " ")
    return shown


def candidates_line(names: Sequence[str], chosen: int | None, columns: int) -> list[Fragment]:
    """Format the candidates of Tab, with the chosen one visible."""
    # Begin with as many earlier candidates as fit beside the chosen one.
    first = chosen or 0
    used = width_of(names[first]) + 2
    while first > 0 and used + width_of(names[first - 1]) + 2 < columns:
        first -= 1
        used += width_of(names[first]) + 2
    shown: list[Fragment] = [("", " ")]
    used = 1
    for at in range(first, len(names)):
        name = names[at]
        style = "class:candidate.current" if at == chosen else ""
        used += width_of(name) + 2
        if used > columns and at > first:
            shown[-1] = ("", " …")
            break
        shown += [(style, shorten(name, columns - 2)), ("", "  ")]
    return shown


def _connection(client: Client, silence: float) -> tuple[str, bool]:
    """Describe the connection, and return whether that is a warning."""
    if client.close_code is not None:
        return "offline", True
    retry_in = client.retry_in
    if retry_in is None:
        slow = silence >= _LONG
        return (f"no answer for {int(silence)} s" if slow else "connected"), slow
    if retry_in > 0:
        return f"coming back in {math.ceil(retry_in)} s", True
    return "coming back now", True


def _milliseconds(latency: float | None) -> str:
    return "" if latency is None else f"{max(1, round(latency * 1000))} ms"


def _width(parts: Sequence[tuple[str, int, str]]) -> int:
    return sum(width_of(text) + len(_BETWEEN) for text, _, _ in parts)
