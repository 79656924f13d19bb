"""The rules for the names of rooms."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from itertools import count
from urllib.parse import unquote

from ..errors import BadRoom

__all__ = ["LOBBY", "MAX_ROOM", "check_room", "room_of", "valid_names"]

#: The room at the path ``/``.
LOBBY = "lobby"

#: Characters of a room's name, at most.
MAX_ROOM = 64

#: Characters, at most, of a text that normalizing may shorten to a valid name.
_LONGEST = 4 * MAX_ROOM

#: ASCII characters that a URL's path has to percent-encode (RFC 3986, ``pchar``).
_ENCODED_ASCII = re.compile(r"[^\w\-.~!$&'()*+,;=:@]", re.ASCII)


def room_of(path: str) -> str:
    """The room that a URL's path names: ``/`` is ``lobby``, ``/ops`` and ``/ops/`` are ``ops``.

    Raises :class:`BadRoom`.
    """
    encoded = path.removeprefix("/").removesuffix("/")
    if not encoded:
        return LOBBY
    try:
        return check_room(unquote(encoded, errors="strict"))
    except UnicodeDecodeError:
        raise BadRoom("The URL's path is not valid UTF-8.") from None


def check_room(text: str) -> str:
    """The name of the room that ``text`` asks for. Raises :class:`BadRoom`.

    Drops blanks around the name, and then every ``#`` at its start. Returns the name
    casefolded and in normal form C, so that it is the same in every URL, in the log and
    in the engine.
    """
    if len(text) > _LONGEST:
        # Before normalizing, which hostile text can make slow.
        raise BadRoom(f"A room's name must have at most {MAX_ROOM} characters.")
    return _checked(text)


@lru_cache(maxsize=1024)
def _checked(text: str) -> str:
    """The name for a text of at most ``_LONGEST`` characters. Most clients use the same few."""
    name = _folded(text)
    if not name:
        raise BadRoom("A room's name must not be empty.")
    if name in (".", ".."):
        raise BadRoom(f"A room cannot be called {name}: no URL can contain that name.")
    for char in name:
        if char.isspace():
            raise BadRoom("A room's name must be one word without blanks.")
        if not _is_plain(char):
            shown = char if char.isprintable() else f"U+{ord(char):04X}"
            raise BadRoom(f"A room's name cannot contain {shown}.")
    if len(name) > MAX_ROOM:
        raise BadRoom(f"A room's name must have at most {MAX_ROOM} characters.")
    return name


def valid_names(old: str) -> Iterator[str]:
    """Yield the valid names for a room that an earlier version stored, the best first.

    The best is its old name, if that is still valid. Never ends.
    """
    kept = "".join(char if _is_plain(char) else "-" for char in _folded(old))[:MAX_ROOM]
    name = LOBBY if kept in ("", ".", "..") else kept
    yield name
    for number in count(2):
        suffix = f"-{number}"
        yield name[: MAX_ROOM - len(suffix)] + suffix


def _folded(text: str) -> str:
    """``text`` in the form in which names are compared. Folding twice changes nothing."""
    name = unicodedata.normalize("NFC", text.strip().lstrip("#"))
    return unicodedata.normalize("NFC", name.casefold())


def _is_plain(char: str) -> bool:
    """Whether a name may contain ``char``.

    ASCII: if a URL needs no percent-encoding for it. Any other: if it is printable.
    """
    return not _ENCODED_ASCII.match(char) if char.isascii() else char.isprintable()
