"""Notices of joins and leaves: sent one by one, or batched when there are many."""

from __future__ import annotations

import time
from collections.abc import Callable, Sized

from ..net import TokenBucket
from .events import Joined, Left

__all__ = ["PresenceBatch"]

#: Notices per second, after a burst of so many at once. With 1,000 members and
#: 100 joins per second, a notice for each join would be 100,000 events per second.
_RATE, _BURST = 4.0, 10

#: Seconds between two notices for each member of a room with more than 2,500 members,
#: so that sending them takes about a tenth of the time.
_SECONDS_PER_MEMBER = 1e-4


class PresenceBatch:
    """The joins and leaves in a room that are not announced yet.

    ``members`` are those of the room. ``announce`` gets each notice. ``set_timer`` has a
    function called at a moment of the monotonic clock. For one thread at a time: the room's
    combiner.
    """

    def __init__(
        self,
        members: Sized,
        announce: Callable[[Joined | Left], None],
        set_timer: Callable[[float, Callable[[], None]], None],
    ) -> None:
        #: The last change of each nick: whether it is here, and why it left. By the exact
        #: spelling: the same nick in another case may be another member.
        self.changes: dict[str, tuple[bool, str | None]] = {}
        self._members = members
        self._announce = announce
        self._set_timer = set_timer
        self._bucket = TokenBucket(_RATE, _BURST)
        #: When the next notice may be sent, on the monotonic clock.
        self._due_at = 0.0
        #: Whether a timer is set.
        self._timed = False

    def add(self, nick: str, *, here: bool, reason: str | None = None) -> None:
        """Note that ``nick`` joined or left. This replaces an earlier note of the same nick."""
        self.changes[nick] = here, reason
        if time.monotonic() >= self._due_at:
            self.tell()
        elif not self._timed:
            self._timed = True
            self._set_timer(self._due_at, self._on_timer)

    def tell(self) -> None:
        """Announce all changes now."""
        notices = self._take(len(self._members)) if self.changes else []
        # Announce nothing in a room that nobody uses: a new Room may have the name by now.
        if self._members:
            for notice in notices:
                self._announce(notice)

    def _on_timer(self) -> None:
        self._timed = False
        self.tell()

    def _take(self, connected: int) -> list[Joined | Left]:
        """The notices to send now; ``connected`` is the present number of members."""
        changes, self.changes = self.changes, {}
        # At most one interval from now, even if calls before the due time have used up tokens.
        self._due_at = min(self._bucket.charge(), time.monotonic() + 1 / _RATE)
        pause = connected * _SECONDS_PER_MEMBER
        if pause > 1 / _RATE:
            self._due_at = max(self._due_at, time.monotonic() + pause)
        notices: list[Joined | Left] = []
        # Announce also the leave of a member whose join was never announced: a client that
        # entered in between has its nick in the list of names.
        went = [(nick, reason) for nick, (here, reason) in changes.items() if not here]
        if went:
            (first, reason), *others = went
            names = tuple(nick for nick, _ in others)
            notices.append(Left(first, connected, names, None if others else reason))
        came = [nick for nick, (here, _) in changes.items() if here]
        if came:
            notices.append(Joined(came[0], connected, tuple(came[1:])))
        return notices
