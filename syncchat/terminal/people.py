"""Who is in the room, who spoke last, and whom one does not want to hear."""

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

#: Names of speakers that are remembered, present or not.
_MOST_SPEAKERS = 1000


class People:
    """As far as the server has told. From any thread."""

    def __init__(self) -> None:
        #: Guards everything below; no other lock is taken under it.
        self._lock = threading.Lock()
        #: Everybody; and of them who has been heard of, the last one last.
        self._here: set[str] = set()
        self._heard: dict[str, None] = {}
        self._count = 0
        #: The last who said something, be they still here or not, casefolded.
        self._speakers: dict[str, None] = {}
        #: By the name casefolded, the name as it was written.
        self._ignored: dict[str, str] = {}

    @property
    def count(self) -> int:
        """How many are in the room, oneself included."""
        return self._count

    @property
    def ignored(self) -> list[str]:
        """Who is ignored."""
        with self._lock:
            return list(self._ignored.values())

    def knows(self, nick: str) -> bool:
        """Whether anybody of that name is here, or has said something."""
        folded = nick.casefold()
        with self._lock:
            return folded in self._speakers or any(name.casefold() == folded for name in self._here)

    def ignores(self, nick: str) -> bool:
        """Whether ``nick`` is ignored."""
        return bool(self._ignored) and nick.casefold() in self._ignored

    def ignore(self, nick: str) -> None:
        """Ignore ``nick``, and go on when it is called otherwise."""
        with self._lock:
            self._ignored[nick.casefold()] = nick

    def unignore(self, nick: str) -> bool:
        """Hear ``nick`` again. False: it was not ignored."""
        with self._lock:
            return self._ignored.pop(nick.casefold(), None) is not None

    def beginning_with(self, start: str, own_nick: str | None) -> list[str]:
        """The others whose names begin so, in any case of letters; who spoke last comes first."""
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
        """Take notice of who came, went, spoke, or is called otherwise."""
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

    # Under the lock.

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
