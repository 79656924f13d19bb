"""The rules for nicks."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from ..errors import BadNick
from .sanitize import clean

__all__ = [
    "CONSOLE_NICK",
    "MAX_NICK",
    "SERVER_NICK",
    "check_nick",
    "is_address",
    "key_of",
    "look_of",
]

#: Characters of a nick, at most.
MAX_NICK = 32

#: The nick under which the server itself sends messages.
SERVER_NICK = "server"
#: The name under which the server's console acts.
CONSOLE_NICK = "console"

#: Nicks that could be mistaken for the system, an operator or a group of people.
_RESERVED = frozenset(
    {SERVER_NICK, CONSOLE_NICK, "system", "syncchat", "admin", "all", "everybody", "nobody"}
)

#: Characters, at most, of a text that sanitizing may shorten to a valid nick.
_LONGEST = 4 * MAX_NICK

#: Characters that begin a line of the system, a command, or an address to a person or room.
_SYSTEM_STARTS = tuple("*-/>@#[(")

#: Categories of invisible characters: with them, two nicks could look the same.
_UNSEEN = frozenset({"Cc", "Cf", "Cn", "Co", "Cs"})
#: Invisible characters of other categories: blank letters, and marks with the property
#: Default_Ignorable_Code_Point.
_BLANK = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


def is_address(nick: str) -> bool:
    """Whether ``nick`` is the address of a client that has chosen no nick."""
    # Only an address has a colon.
    return ":" in nick


@lru_cache(maxsize=1024)
def check_nick(text: str) -> str:
    """The nick that ``text`` asks for, sanitized and normalized. Raises :class:`BadNick`.

    In normal form KC, as in the Nickname profile (RFC 8266, section 2.3), so that
    full-width and half-width variants of a nick are the same nick.
    """
    if len(text) > _LONGEST:
        # Before normalizing, which hostile text can make slow.
        raise BadNick(f"A nick must have at most {MAX_NICK} characters.")
    nick = unicodedata.normalize("NFKC", clean(text).strip())
    if not nick:
        raise BadNick("A nick must not be empty.")
    if len(nick) > MAX_NICK:
        raise BadNick(f"A nick must have at most {MAX_NICK} characters.")
    if nick.casefold() in _RESERVED:
        raise BadNick(f"The nick {nick} is reserved.")
    if nick.startswith(_SYSTEM_STARTS):
        raise BadNick(f"A nick must not begin with {nick[0]!r}.")
    for char in nick:
        # A colon ends the sender in "nick: text", and marks a nick as an address.
        if char in ":," or char.isspace() or unicodedata.category(char) in _UNSEEN:
            raise BadNick("A nick must be one word without colons or commas.")
    if _BLANK.search(nick) or not any(unicodedata.category(char)[0] in "LNS" for char in nick):
        raise BadNick("A nick must consist of visible characters.")
    return nick


def key_of(nick: str) -> str:
    """The key of a nick: it is the same for all spellings in upper and lower case."""
    return nick.casefold()


@lru_cache(maxsize=4096)
def look_of(nick: str) -> str:
    """The same text for all nicks that look the same, in upper and lower case.

    It is the skeleton of Unicode Technical Standard #39, section 4, casefolded. Usable from any
    thread.
    """
    # The second time, since "m" looks like "rn", but "M" does not.
    return _skeleton(_skeleton(unicodedata.normalize("NFKC", nick)).casefold())


def _skeleton(text: str) -> str:
    # Imported late: it is needed only once somebody has chosen a nick.
    from homoglyph.data import load_prototypes  # noqa: PLC0415

    prototypes = load_prototypes()
    chars = (prototypes.get(ord(char), char) for char in unicodedata.normalize("NFD", text))
    return unicodedata.normalize("NFD", "".join(chars))
