"""Sanitizes what comes from the server: whatever is shown has passed :func:`sanitized`."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import replace
from typing import Any, TypeVar

import msgspec
from prompt_toolkit.utils import get_cwidth

from ..chat.nicks import MAX_NICK
from ..chat.sanitize import clean
from ..client import Disconnected, Event, Line

__all__ = ["name_for_screen", "sanitized", "text_for_screen"]

#: The most characters of a text. A syncchat server accepts fewer.
_LONGEST_TEXT = 65_536
#: The most characters of a name. An address may be longer than a nick.
_LONGEST_NAME = 2 * MAX_NICK

#: The most marks on one letter. Languages need four or five, and this few do not paint
#: over the lines above.
_MARKS = 8

_UNSEEN = ("Mn", "Me", "Cf")

#: Text that may have more marks than that: no ASCII character is a mark.
_SUSPECT = re.compile(rf"[^\x00-\x7f]{{{_MARKS + 1},}}")


#: The fields of events that contain names, or a text. A tuple or a list contains names.
_NAMES = frozenset(
    {
        "nick", "old", "to", "room", "members", "names", "others", "rooms", "by", "target", "topic",
        "person",
    }
)  # fmt: skip
_TEXTS = frozenset({"text", "reason", "greeting", "format", "away", "motd"})
#: The fields that contain further objects, or names.
_PARTS = frozenset({"messages", "rooms", "bans"})

_Struct = TypeVar("_Struct", bound=msgspec.Struct)


def sanitized(event: Event) -> Event:
    """Return ``event`` without anything that is unsafe to show."""
    if isinstance(event, msgspec.Struct):
        return _tame(event)
    if isinstance(event, Line):
        return Line(text_for_screen(event.text))
    if isinstance(event, Disconnected):
        return replace(event, reason=name_for_screen(event.reason))
    return event


def text_for_screen(text: str) -> str:
    """Return ``text`` without unsafe characters; newlines stay.

    Removes what controls a terminal, is invisible, or paints over other lines.
    """
    beyond = len(text) - _LONGEST_TEXT
    if beyond > 0:
        text = f"{text[:_LONGEST_TEXT]}… ({beyond} more characters)"
    text = clean(text)
    return _SUSPECT.sub(_limit_marks, text) if not text.isascii() else text


def name_for_screen(name: str) -> str:
    """Sanitize a name, or any other text that must be one short line."""
    if len(name) <= _LONGEST_NAME and name.isascii() and name.isprintable():
        # Nothing to do, as for most names.
        return name
    short = name if len(name) <= _LONGEST_NAME else name[:_LONGEST_NAME] + "…"
    return text_for_screen(short).replace("\n", " ").replace("\t", " ")


def _tame(struct: _Struct) -> _Struct:
    changes: dict[str, Any] = {}
    for field in struct.__struct_fields__:
        value = getattr(struct, field)
        tame: Any
        if not value:
            continue
        if field == "mention":
            tame = _tame(value)
        elif field in _PARTS and isinstance(value[0], msgspec.Struct):
            tame = tuple(map(_tame, value))
        elif field not in _NAMES and field not in _TEXTS:
            continue
        elif not isinstance(value, str):
            tame = type(value)(map(name_for_screen, value))
        elif len(value) <= _LONGEST_NAME and value.isascii() and value.isprintable():
            # Nothing to do, as for most names and texts.
            continue
        else:
            tame = text_for_screen(value) if field in _TEXTS else name_for_screen(value)
        if tame != value:
            changes[field] = tame
    return msgspec.structs.replace(struct, **changes) if changes else struct


def _limit_marks(found: re.Match[str]) -> str:
    kept = []
    marks = 0
    for char in found[0]:
        # A character without a column is drawn on top of the one before it.
        seen = get_cwidth(char) and unicodedata.category(char) not in _UNSEEN
        marks = 0 if seen else marks + 1
        if marks <= _MARKS:
            kept.append(char)
    return "".join(kept)
