"""Who came and who went: told one by one, or gathered where it is a crowd."""

from __future__ import annotations

import time

from ..net.rate_limit import TokenBucket
from .events import Joined, Left

__all__ = ["PresenceBatch"]

#: Notices a second, and how many at once before that. With 1,000 members and
#: 100 joins a second, one for each join would be 100,000 events a second.
_RATE, _BURST = 4.0, 10


class PresenceBatch:
    """The changes in a room that nobody has been told of yet.

    For one thread at a time: the holder of the room's baton.
    """

    def __init__(self) -> None:
        #: What became of each who came or went: its name, whether it is here,
        #: and why it went. By the name as it is written, which may be another's
        #: in other letters.
        self._changes: dict[str, tuple[bool, str | None]] = {}
        self._bucket = TokenBucket(_RATE, _BURST)
        #: When the next may be told, on the monotonic clock.
        self.due_at = 0.0

    def __bool__(self) -> bool:
        return bool(self._changes)

    def __contains__(self, nick: str) -> bool:
        return nick in self._changes

    def add(self, nick: str, *, here: bool, reason: str | None = None) -> None:
        """Note that somebody came or went; the last such note of a name holds."""
        self._changes[nick] = here, reason

    def take(self, connected: int) -> list[Joined | Left]:
        """What is to be told; ``connected`` is how many there are now."""
        changes, self._changes = self._changes, {}
        # Not later, however many had to be told before their time.
        self.due_at = min(self._bucket.charge(), time.monotonic() + 1 / _RATE)
        told: list[Joined | Left] = []
        # Even of somebody who came and went in between: who entered meanwhile
        # has seen its name in the list.
        went = [(nick, reason) for nick, (here, reason) in changes.items() if not here]
        if went:
            (first, reason), *others = went
            names = tuple(nick for nick, _ in others)
            told.append(Left(first, connected, names, None if others else reason))
        came = [nick for nick, (here, _) in changes.items() if here]
        if came:
            told.append(Joined(came[0], connected, tuple(came[1:])))
        return told
