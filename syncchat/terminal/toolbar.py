"""The line below the prompt: where one is, who one is, how the connection is."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..client import Client
from .people import People
from .strangers import name_for_screen
from .wrapping import Fragment, shorten, width_of

__all__ = ["candidates_line", "status_line"]

_BETWEEN = " | "


def status_line(
    client: Client, people: People, latency: float | None, columns: int, *, away: bool
) -> list[Fragment]:
    """As much of the state as there is room for, the most important first to stay."""
    state, warning = _connection(client)
    unsent = client.unacknowledged
    nick = name_for_screen(client.nick or "")
    # What it is, how important it is (the least goes first), and its style.
    parts = [
        (name_for_screen(client.room or ""), 5, ""),
        (f"{nick} (away)" if away else nick, 3, ""),
        (f"{people.count} here" if client.connected and people.count else "", 2, ""),
        (state, 6, "class:toolbar.warning" if warning else ""),
        (_milliseconds(latency) if client.connected else "", 1, ""),
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
    """What Tab goes through, with the one that is chosen in sight."""
    # As many before the chosen one as fit with it.
    first = 0
    last = chosen or 0
    while first < last and sum(width_of(name) + 2 for name in names[first : last + 1]) >= columns:
        first += 1
    shown: list[Fragment] = [("", " ")]
    used = 1
    for at, name in enumerate(names[first:], first):
        style = "class:candidate.current" if at == chosen else ""
        used += width_of(name) + 2
        if used > columns and at > first:
            break
        shown += [(style, shorten(name, columns - 2)), ("", "  ")]
    return shown


def _connection(client: Client) -> tuple[str, bool]:
    """How the connection is, and whether that is bad news."""
    if client.close_code is not None:
        return "offline", True
    retry_in = client.retry_in
    if retry_in is None:
        return "connected", False
    if retry_in > 0:
        return f"coming back in {math.ceil(retry_in)} s", True
    return "coming back now", True


def _milliseconds(latency: float | None) -> str:
    return "" if latency is None else f"{max(1, round(latency * 1000))} ms"


def _width(parts: Sequence[tuple[str, int, str]]) -> int:
    return sum(width_of(text) + len(_BETWEEN) for text, _, _ in parts)
