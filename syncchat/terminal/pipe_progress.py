"""How far the input of a pipe is, and what the server's rate limit means for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ..chat.events import ClientLimits
from .standard_streams import StandardError

__all__ = ["InputLines", "RateLimit"]

#: The most nonces that are kept: enough for all events that can wait for the program,
#: and all messages that can wait for the server.
_MOST_NONCES = 12_000

#: The shortest delay in seconds that is reported.
_WORTH = 1.0

#: Seconds to wait for the end of the input, after which its length counts as unknown;
#: seconds between two checks meanwhile; and seconds between two updates of the
#: progress.
_GRACE, _SOON, _OFTEN = 0.5, 0.1, 0.25


class InputLines:
    """The progress of the input. Any thread may call every method."""

    def __init__(self) -> None:
        #: Guards the fields below.
        self._lock = threading.Lock()
        self._numbers: dict[str, int] = {}
        #: The number of lines that were sent or refused.
        self.done = 0
        #: Whether the input has ended.
        self.ended = False

    def advance(self, nonce: str | None) -> None:
        """Count a line that was sent or refused; ``nonce`` is its nonce, None if it has none."""
        with self._lock:
            self.done += 1
            if nonce is not None:
                self._numbers[nonce] = self.done
                if len(self._numbers) > _MOST_NONCES:
                    del self._numbers[next(iter(self._numbers))]

    def number_of(self, nonce: str) -> int:
        """Return the number of the line with this nonce, counted from 1."""
        with self._lock:
            # An answer may arrive before advance() is called.
            return self._numbers.pop(nonce, self.done + 1)


class RateLimit:
    """Reports the limit once, and shows the progress at a terminal. Only for one thread.

    ``total`` returns the number of lines in the input, None if it is unknown.
    """

    def __init__(
        self,
        lines: InputLines,
        errors: StandardError,
        total: Callable[[], int | None],
        *,
        progress: bool,
    ) -> None:
        self._lines = lines
        self._errors = errors
        self._total = total
        self._progress = progress
        self._rate = 0.0
        self._burst = 0
        self._slow_since: float | None = None
        self._told = False
        #: The number of lines in the input, as known when the limit was reported.
        self._known: int | None = None
        #: Seconds until :meth:`look` must be called; None: after the next event.
        self.pause: float | None = None

    def learn(self, limits: ClientLimits) -> None:
        """Note the limits that the server has told."""
        self._rate, self._burst = limits.rate, limits.burst

    def look(self, pending: int) -> None:
        """Check the progress, and report it; ``pending`` is the number of unacknowledged lines."""
        done = self._lines.done
        acknowledged = done - pending
        if not self._rate or self._seconds(pending, acknowledged) < _WORTH:
            self.rest()
            return
        now = time.monotonic()
        if self._slow_since is None:
            self._slow_since = now
        if not self._told:
            self._known = self._total()
        known = done if self._lines.ended else self._known
        if not self._told:
            if known is None and now < self._slow_since + _GRACE:
                self.pause = _SOON
                return
            self._told = True
            self._errors.tell(self._note(known, acknowledged))
        if self._progress:
            self._errors.show(self._state(known, done, acknowledged))
            self.pause = _OFTEN
        else:
            self.pause = None

    def rest(self) -> None:
        """Note that nothing is delayed at the moment."""
        self._slow_since = self.pause = None
        self._errors.show("")

    def _seconds(self, lines: int, acknowledged: int) -> float:
        """Return how many seconds ``lines`` more lines take."""
        at_once = max(0, self._burst - acknowledged)
        return max(0, lines - at_once) / self._rate

    def _note(self, known: int | None, acknowledged: int) -> str:
        limit = f"The server accepts {self._rate:g} messages per second from one client"
        lift = "The server's flag --rate 0 removes the limit."
        if known is None:
            return f"{limit} and delays further input. {lift}"
        left = known - acknowledged
        time_left = _duration(self._seconds(left, acknowledged))
        return f"{limit}: the remaining {left} lines take about {time_left}. {lift}"

    def _state(self, known: int | None, done: int, acknowledged: int) -> str:
        lines = acknowledged if known is None else f"{acknowledged} of {known}"
        left = (done if known is None else known) - acknowledged
        time_left = _duration(self._seconds(left, acknowledged))
        return f"{done} lines sent, {lines} acknowledged, about {time_left} to go"


def _duration(seconds: float) -> str:
    for unit, name in ((3600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} s"
