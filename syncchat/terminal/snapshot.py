"""The user's preferences, and what is needed to show one event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from ..chat.dialects import LineFormat
from ..chat.events import MAX_HISTORY, Message
from .rooms import Note, Room

__all__ = ["BELLS", "Bell", "Preferences", "Snapshot"]

#: When the terminal rings: never; for the user's nick and private messages; for every message.
Bell = Literal["off", "mention", "all"]

BELLS: tuple[Bell, ...] = get_args(Bell)


@dataclass(frozen=True)
class Preferences:
    """The user's preferences for the screen."""

    #: The prefix of each line from the server.
    prefix: str = ""
    #: One of ``style.COLOR_CHOICES``.
    color: str = "auto"
    bell: Bell = "mention"
    #: Whether lines begin with the time.
    timestamps: bool = False
    #: How many messages that were seen before are shown again when the user enters a room.
    history: int = MAX_HISTORY


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is needed to show one event, as the model knew it right after the event."""

    #: The user's nick, sanitized; empty if it is not known.
    own: str
    preferences: Preferences
    #: The server's format for messages.
    form: LineFormat
    #: The ignored nicks by their casefolded form.
    ignored: Mapping[str, str]
    #: Whether the event is for the user. If not, it answers a request that the client
    #: itself made.
    shown: bool = True
    #: The user's message that the event answers; None if there is none.
    answered: Message | None = None
    #: For a message: whether it was sent before the client entered the room; and the
    #: heading in front of it, if it is the first such message.
    is_history: bool = False
    heading: str = ""
    #: For the answer to a search: the words.
    words: Sequence[str] = ()
    #: For a welcome: whether it is not the first one.
    moved: bool = False
    #: Whether the room's log began anew during the last break.
    anew: bool = False
    #: What the list of rooms says about the event; and the followed rooms.
    note: Note = field(default_factory=Note)
    rooms: Sequence[Room] = ()
    #: The words that are marked besides the user's nick.
    marked: Sequence[str] = ()
    #: For a redaction: the message that it removes, if it is known.
    removed: Message | None = None
    #: For a welcome after a break: why the user was away before; None if not away.
    away_again: str | None = None

    def ignores(self, nick: str) -> bool:
        """Whether ``nick`` is ignored."""
        return bool(self.ignored) and nick.casefold() in self.ignored
