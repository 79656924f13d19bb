"""Which dialect the server of a connection speaks: plain lines or ``syncchat.v1``."""

from __future__ import annotations

from math import inf

from ..chat import events

__all__ = ["DialectGuess"]

#: Two times in seconds since the connection was opened. Without a message by the first,
#: the server is assumed to speak plain lines. Lines sent on that assumption are kept
#: until the second.
_ASSUMED, _KEPT = 1.0, 10.0


class DialectGuess:
    """The dialect of one connection, opened at ``opened_at``.

    A server that does not speak ``syncchat.v1`` may still agree to every subprotocol
    that a client offers, so its answer to the handshake proves nothing. The first
    message does: a server of ``syncchat.v1`` begins with a ``welcome``.

    ``subprotocol`` is the one that the server agreed to. If the server is ``known`` to
    speak ``syncchat.v1``, its ``welcome`` may take any time. Any other server is assumed
    to speak plain lines after one second.

    The first message decides, whenever it arrives, so a slow server is not misjudged
    for good. If that message is a ``welcome``, the server has refused the plain lines
    that it was sent by then, and the client sends them again as events. To do so, the
    client keeps such lines until ten seconds after the open.
    """

    def __init__(self, subprotocol: str | None, opened_at: float, *, known: bool) -> None:
        offered = subprotocol == events.SUBPROTOCOL
        #: Whether the server is known to speak ``syncchat.v1``.
        self.known = known
        #: True for plain lines, False for ``syncchat.v1``, None while unknown.
        self.plain: bool | None = None if offered else True
        #: Whether ``plain`` is final.
        self.certain = not offered
        #: Whether to keep the plain lines that are sent, in case the assumption is wrong.
        self.keeps = offered
        self._kept_until = opened_at + _KEPT
        #: When to call :meth:`assume_plain`, unless a message arrives before.
        self.due_at = opened_at + _ASSUMED if offered and not known else inf

    def assume_plain(self) -> None:
        """Note that no message has arrived up to ``due_at``."""
        self.keeps = self.plain is None
        self.plain = True
        self.due_at = self._kept_until if self.keeps else inf

    def hear(self, event: events.FromServer | None) -> bool:
        """Note the first message. ``event`` is its event, None for any other text.

        Returns whether this message made the dialect certain. An ``error`` does not: a
        server of ``syncchat.v1`` that refuses a client sends the reason before it
        closes the connection.
        """
        if isinstance(event, events.Error):
            return False
        self.plain = not isinstance(event, events.Welcome)
        self.certain, self.keeps, self.due_at = True, False, inf
        return True
