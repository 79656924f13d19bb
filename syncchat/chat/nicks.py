"""Names that people give themselves: what may be one, and what may not."""

from __future__ import annotations

import re
import unicodedata

from .sanitize import clean

__all__ = ["MAX_NICK", "SERVER_NICK", "BadNick", "check_nick", "is_address"]

#: Characters of a nick.
MAX_NICK = 32

#: Who says what the server itself says.
SERVER_NICK = "server"

#: Names that would pass for the system's.
_RESERVED = frozenset({SERVER_NICK, "system", "syncchat", "admin", "all", "everybody", "nobody"})

#: Characters of a text that may come to a nick once it is cleaned.
_LONGEST = 4 * MAX_NICK

#: What begins a line of the system's, or a command.
_SYSTEM_STARTS = tuple("*-/>@#[(")

#: Categories of characters that show nothing, by which two names could look alike.
_UNSEEN = frozenset({"Cc", "Cf", "Cn", "Co", "Cs"})
#: Others that do the same: blank letters, and marks that are to be ignored
#: (Default_Ignorable_Code_Point).
_BLANK = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


class BadNick(Exception):
    """A text that cannot be a nick; the message says why, to its owner."""


def is_address(nick: str) -> bool:
    """Whether who is called so has no nick, but goes by an address."""
    # Which alone has a colon.
    return ":" in nick


def check_nick(text: str) -> str:
    """The nick that ``text`` asks for, cleaned and normalized. Raises :class:`BadNick`.

    In normal form KC, as the Nickname profile has it (RFC 8266, section 2.3), so
    that names which look alike in other widths are one.
    """
    if len(text) > _LONGEST:
        # First: to normalize takes long where somebody means it to.
        raise BadNick(f"A nick has at most {MAX_NICK} characters.")
    nick = unicodedata.normalize("NFKC", clean(text).strip())
    if not nick:
        raise BadNick("A nick has at least one character.")
    if len(nick) > MAX_NICK:
        raise BadNick(f"A nick has at most {MAX_NICK} characters.")
    if nick.casefold() in _RESERVED:
        raise BadNick(f"The nick {nick} is reserved.")
    if nick.startswith(_SYSTEM_STARTS):
        raise BadNick(f"A nick does not begin with {nick[0]}")
    for char in nick:
        # A colon ends the sender in "nick: text", and is in every address.
        if char in ":," or char.isspace() or unicodedata.category(char) in _UNSEEN:
            raise BadNick("A nick is one word, without colons and commas.")
    if _BLANK.search(nick) or not any(unicodedata.category(char)[0] in "LNS" for char in nick):
        raise BadNick("A nick is something that can be seen.")
    return nick
