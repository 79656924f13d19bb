"""The people in the room, and those who have spoken."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence

__all__ = ["People"]

#: The most speakers that are remembered, present or not.
_MOST_SPEAKERS = 1000


class People:
    """Who is here, and who was active. Not thread-safe: a part of the model."""

    def __init__(self) -> None:
        #: All nicks in the room; and those that were active, the latest last.
        self._here: set[str] = set()
        self._heard: dict[str, None] = {}
        #: The casefolded nicks of the latest speakers, present or not.
        self._speakers: dict[str, None] = {}

    def knows(self, nick: str) -> bool:
        """Whether someone with this nick is in the room or has spoken."""
        folded = nick.casefold()
        return folded in self._speakers or any(name.casefold() == folded for name in self._here)

    def beginning_with(self, start: str, own: str | None, ignored: Container[str]) -> list[str]:
        """Return the people whose nicks begin with ``start``, the latest active first.

        Ignores case, and leaves out ``own``, and people whose casefolded nick is in ``ignored``.
        """
        folded = start.casefold()
        silent = self._here - self._heard.keys()
        return [
            name
            for name in [*reversed(self._heard), *sorted(silent, key=str.casefold)]
            if name.casefold().startswith(folded) and name != own and name.casefold() not in ignored
        ]

    def fill(self, names: Sequence[str]) -> None:
        """Note that exactly ``names`` are in the room."""
        self.remove(self._here.difference(names))
        self._here.update(names)

    def add(self, names: Iterable[str]) -> None:
        """Note that ``names`` have come."""
        self._here.update(names)

    def remove(self, names: Iterable[str]) -> None:
        """Note that ``names`` have left."""
        for name in names:
            self._here.discard(name)
            self._heard.pop(name, None)

    def hear_of(self, nick: str, *, spoke: bool = False) -> None:
        """Note that someone is active, and perhaps has said something."""
        if nick in self._here:
            self._heard.pop(nick, None)
            self._heard[nick] = None
        if spoke:
            folded = nick.casefold()
            self._speakers.pop(folded, None)
            self._speakers[folded] = None
            if len(self._speakers) > _MOST_SPEAKERS:
                del self._speakers[next(iter(self._speakers))]
