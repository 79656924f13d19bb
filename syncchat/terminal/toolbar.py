"""The toolbar below the input: the rooms, the user, and the connection."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..client import Client
from .model import Model
from .rooms import Room
from .safe_text import name_for_screen
from .style import Fragment, shorten, width_of

__all__ = ["room_bar", "status_line"]

_BETWEEN = " | "

#: Seconds without an answer from which the toolbar shows the delay.
_LONG = 3.0

#: The fewest columns in which a topic is shown.
_SHORT_TOPIC = 12

#: For each level of shortening, how short the rooms are: see :func:`room_bar`.
_BREVITY = (0, 0, 0, 1, 1, 2, 3, 3)


def status_line(client: Client, model: Model, columns: int) -> list[Fragment]:
    """Format the toolbar. If ``columns`` are too few, leaves out the least important parts."""
    state, warning = _connection(client, model.silence)
    unsent = client.unacknowledged
    nick = name_for_screen(client.nick or "")
    partner = model.partner
    # The text, the importance (the lowest is left out first), and the style.
    parts = [
        (f"to {name_for_screen(partner)}" if partner else "", 6, "class:toolbar.warning"),
        (f"{nick} (away)" if model.away else nick, 3, ""),
        (f"{model.count} here" if client.connected and model.count else "", 2, ""),
        (state, 7, "class:toolbar.warning" if warning else ""),
        (_milliseconds(model.latency) if not warning else "", 1, ""),
        (f"{unsent} unsent" if unsent else "", 4, "class:toolbar.warning"),
    ]
    parts = [part for part in parts if part[0]]
    room = name_for_screen(client.room or "")
    rooms = model.followed.watched
    for level, brevity in enumerate(_BREVITY):
        left = [part for part in parts if part[1] >= level]
        bar = room_bar(rooms, room, brevity) if room else []
        width = _width([bar, *([(style, text)] for text, _, style in left)])
        if width <= columns:
            break
    current = model.followed.current
    topic = current.topic if current is not None else ""
    spare = columns - width - len(_BETWEEN)
    shown: list[Fragment] = [("", " ")]
    if bar:
        shown += [*((style, shorten(text, columns - 2)) for style, text in bar), ("", _BETWEEN)]
    if topic and spare >= min(_SHORT_TOPIC, width_of(topic)):
        shown += [("", shorten(topic, spare)), ("", _BETWEEN)]
    for text, _, style in left:
        shown += [(style, shorten(text, columns - 2)), ("", _BETWEEN)]
    shown[-1] = ("", " ")
    return shown


def room_bar(rooms: Sequence[Room], current: str, brevity: int) -> list[Fragment]:
    """Format the rooms for the toolbar: ``lobby  ops 3!  dev``.

    ``brevity``: 0 for all rooms, 1 for those with activity, 2 for those with mentions, and
    3 for the current room only. A number says how many rooms are left out.
    """
    shown: list[Fragment] = []
    left_out = 0
    for room in rooms:
        is_current = room.name == current
        if not is_current and (
            brevity > 2
            or (brevity == 2 and not room.mentioned)
            or (brevity == 1 and not room.unread)
        ):
            left_out += 1
            continue
        text = room.name
        if room.unread and not is_current:
            text += f" {room.unread}{'!' * room.mentioned}"
        style = "class:toolbar.warning" if room.mentioned else ""
        if is_current and len(rooms) > 1:
            style = "class:toolbar.current"
        shown += [(style, text), ("", "  ")]
    if left_out:
        return [*shown, ("", f"+{left_out}")]
    return shown[:-1]


def _connection(client: Client, silence: float) -> tuple[str, bool]:
    """Describe the connection, and return whether that is a warning."""
    if client.close_code is not None:
        return "offline", True
    retry_in = client.retry_in
    if retry_in is None:
        slow = silence >= _LONG
        return (f"no response for {int(silence)} s" if slow else "connected"), slow
    if retry_in > 0:
        return f"reconnecting in {math.ceil(retry_in)} s", True
    return "reconnecting now", True


def _milliseconds(latency: float | None) -> str:
    return "" if latency is None else f"{max(1, round(latency * 1000))} ms"


def _width(parts: Sequence[Sequence[Fragment]]) -> int:
    """Return the columns of the parts with what is between them."""
    return sum(sum(width_of(text) for _, text in part) + len(_BETWEEN) for part in parts if part)
