"""Which dialect the server at the other end of a connection speaks.

A server of another make may agree to every subprotocol that a client offers,
so that its answer to the handshake proves nothing. The first message does: a
server of ``syncchat.v1`` begins with a ``welcome``.
"""

from __future__ import annotations

from math import inf

from ..chat.events import SUBPROTOCOL, Error, FromServer, Welcome

__all__ = ["Dialect"]

#: Seconds after the open without any message after which the server is taken for
#: one of plain lines, and for which what it is sent then is kept.
_ASSUMED, _KEPT = 1.0, 10.0


class Dialect:
    """The dialect of one connection, which began at ``opened_at`` on the monotonic clock.

    Not for several threads at a time. ``subprotocol`` is the one that the server
    has agreed to. A server that is ``known`` to speak ``syncchat.v1`` may take as
    long as it likes to send its ``welcome``; any other is taken for a server of
    plain lines after a second. Whenever its first message comes, that decides: a
    slow server is not misjudged for ever. The plain lines that it has been sent by
    then it has refused, and they are sent again as events: for ten seconds, the
    client keeps them.
    """

    def __init__(self, subprotocol: str | None, opened_at: float, *, known: bool) -> None:
        offered = subprotocol == SUBPROTOCOL
        #: True for plain lines, False for ``syncchat.v1``, None while it is unknown.
        self.plain: bool | None = None if offered else True
        #: Whether that is final.
        self.certain = not offered
        #: Whether what is sent in plain lines is to be kept, in case they are wrong.
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
        """Note that no message has come up to ``now``. Returns whether that changes anything."""
        if now < self.due_at:
            return False
        self.keeps = self.plain is None
        self.plain = True
        return True

    def hear(self, event: FromServer | None) -> bool:
        """Note a message: the event that it is, None for any other text.

        Returns whether it has made the dialect certain. An ``error`` does not: a
        server of ``syncchat.v1`` that refuses a client says why before it closes
        the connection.
        """
        if self.certain or isinstance(event, Error):
            return False
        self.plain = not isinstance(event, Welcome)
        self.certain, self.keeps = True, False
        return True
