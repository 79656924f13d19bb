"""Finds out which dialect the server of a connection speaks.

A server that does not speak ``syncchat.v1`` may still agree to every subprotocol that a
client offers, so its answer to the handshake proves nothing. The first message does: a
server of ``syncchat.v1`` begins with a ``welcome``.
"""

from __future__ import annotations

from math import inf

from ..chat.events import SUBPROTOCOL, Error, FromServer, Welcome

__all__ = ["Dialect"]

#: Two times in seconds since the connection was opened. Without a message by the first,
#: the server is assumed to speak plain lines. Lines sent on that assumption are kept
#: until the second.
_ASSUMED, _KEPT = 1.0, 10.0


class Dialect:
    """The dialect of one connection, opened at ``opened_at`` on the monotonic clock.

    Not thread-safe. ``subprotocol`` is the one that the server agreed to. If the server
    is ``known`` to speak ``syncchat.v1``, its ``welcome`` may take any time. Any other
    server is assumed to speak plain lines after one second.

    The first message decides, whenever it arrives, so a slow server is not misjudged
    for good. If that message is a ``welcome``, the server has refused the plain lines
    that it was sent by then, and the client sends them again as events. To do so, the
    client keeps such lines until ten seconds after the open.
    """

    def __init__(self, subprotocol: str | None, opened_at: float, *, known: bool) -> None:
        offered = subprotocol == SUBPROTOCOL
        #: Whether the server is known to speak ``syncchat.v1``.
        self.known = known
        #: True for plain lines, False for ``syncchat.v1``, None while unknown.
        self.plain: bool | None = None if offered else True
        #: Whether ``plain`` is final.
        self.certain = not offered
        #: Whether to keep the plain lines that are sent, in case the assumption is wrong.
        self.keeps = offered
        self._assumed_at = inf if known else opened_at + _ASSUMED
        self._kept_until = opened_at + _KEPT

    @property
    def due_at(self) -> float:
        """When :meth:`pass_time` next changes something, on the monotonic clock."""
        if self.certain or not self.keeps:
            return inf
        return self._assumed_at if self.plain is None else self._kept_until

    def pass_time(self, now: float) -> bool:
        """Note that no message has arrived up to ``now``. Returns whether that changes anything."""
        if now < self.due_at:
            return False
        self.keeps = self.plain is None
        self.plain = True
        return True

    def hear(self, event: FromServer | None) -> bool:
        """Note a message. ``event`` is its event, None for any other text.

        Returns whether this message made the dialect certain. An ``error`` does not: a
        server of ``syncchat.v1`` that refuses a client sends the reason before it
        closes the connection.
        """
        if self.certain or isinstance(event, Error):
            return False
        self.plain = not isinstance(event, Welcome)
        self.certain, self.keeps = True, False
        return True
