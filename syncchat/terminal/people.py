"""The people in the room, the recent speakers, and the ignored nicks."""

from __future__ import annotations

import threading

from ..chat.events import (
    Away,
    Back,
    Joined,
    Left,
    Message,
    Names,
    PrivateMessage,
    Renamed,
    Welcome,
)
from ..client import Event

__all__ = ["People"]

#: The most speakers that are remembered, present or not.
_MOST_SPEAKERS = 1000


class People:
    """What the server has told about people. Any thread may call every method."""

    def __init__(self) -> None:
        #: Guards everything below. No other lock is taken while it is held.
        self._lock = threading.Lock()
        #: All nicks in the room; and those that were active, the latest last.
        self._here: set[str] = set()
        self._heard: dict[str, None] = {}
        self._count = 0
        #: The casefolded nicks of the latest speakers, present or not.
        self._speakers: dict[str, None] = {}
        #: Maps casefolded nicks to their spelling.
        self._ignored: dict[str, str] = {}

    @property
    def count(self) -> int:
        """The number of people in the room, including the user."""
        return self._count

    @property
    def ignored(self) -> list[str]:
        """The ignored nicks."""
        with self._lock:
            return list(self._ignored.values())

    def knows(self, nick: str) -> bool:
        """Whether someone with this nick is in the room or has spoken."""
        folded = nick.casefold()
        with self._lock:
            return folded in self._speakers or any(name.casefold() == folded for name in self._here)

    def ignores(self, nick: str) -> bool:
        """Whether ``nick`` is ignored."""
        return bool(self._ignored) and nick.casefold() in self._ignored

    def ignore(self, nick: str) -> None:
        """Ignore ``nick``, also after that person changes the nick."""
        with self._lock:
            self._ignored[nick.casefold()] = nick

    def unignore(self, nick: str) -> bool:
        """Stop ignoring ``nick``. Returns False if it was not ignored."""
        with self._lock:
            return self._ignored.pop(nick.casefold(), None) is not None

    def beginning_with(self, start: str, own_nick: str | None) -> list[str]:
        """Return the other people whose nicks begin with ``start``, the latest active first.

        Ignores case, and leaves out ignored people.
        """
        folded = start.casefold()
        with self._lock:
            silent = self._here - self._heard.keys()
            return [
                name
                for name in [*reversed(self._heard), *sorted(silent, key=str.casefold)]
                if name.casefold().startswith(folded)
                and name != own_nick
                and not self.ignores(name)
            ]

    def note(self, event: Event) -> None:
        """Note who came, left, spoke or changed the nick."""
        with self._lock:
            if isinstance(event, Message | PrivateMessage):
                self._note_speaker(event.nick)
            if isinstance(event, Message | PrivateMessage | Away | Back):
                self._hear_of(event.nick)
            elif isinstance(event, Joined):
                self._here.update((event.nick, *event.others))
                self._count = event.connected
            elif isinstance(event, Left):
                self._remove(event.nick, *event.others)
                self._count = event.connected
            elif isinstance(event, Renamed):
                self._rename(event.old, event.nick)
            elif isinstance(event, Welcome | Names):
                names = event.members if isinstance(event, Welcome) else event.names
                self._remove(*self._here.difference(names))
                self._here.update(names)
                self._count = len(names)

    # Called with the lock held.

    def _remove(self, *names: str) -> None:
        self._here.difference_update(names)
        for name in names:
            self._heard.pop(name, None)

    def _note_speaker(self, nick: str) -> None:
        folded = nick.casefold()
        self._speakers.pop(folded, None)
        self._speakers[folded] = None
        if len(self._speakers) > _MOST_SPEAKERS:
            del self._speakers[next(iter(self._speakers))]

    def _hear_of(self, nick: str) -> None:
        if nick in self._here:
            self._heard.pop(nick, None)
            self._heard[nick] = None

    def _rename(self, old: str, nick: str) -> None:
        self._remove(old)
        self._here.add(nick)
        self._hear_of(nick)
        if self._ignored.pop(old.casefold(), None) is not None:
            self._ignored[nick.casefold()] = nick
