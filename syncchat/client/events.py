"""What a client is told besides what the server says: about the connection, and what is lost."""

from __future__ import annotations

from dataclasses import dataclass

from ..chat.events import FromServer
from ..chat.sanitize import clean
from ..closecodes import ABNORMAL, GOING_AWAY, NO_CODE, NORMAL, meaning

__all__ = ["Disconnected", "Event", "Gap", "Line", "Reconnected", "Sent", "ending"]


@dataclass(frozen=True, slots=True)
class Line:
    """A text from a server that does not speak ``syncchat.v1``, without its line end."""

    text: str


@dataclass(frozen=True, slots=True)
class Gap:
    """Messages are missing here: those behind ``after``, as far as the server has no more of them.

    ``epoch`` tells whether it is still the same log. Then those are missing
    whose offsets lie between ``after`` and that of the next message.
    """

    after: int
    epoch: str


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection is lost, with this close code, and the client is about to come back."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Reconnected:
    """There is a connection again. What was missed comes next, where the server tells it."""


@dataclass(frozen=True, slots=True)
class Sent:
    """The message with this nonce is sent, to a server that acknowledges nothing.

    Only for what was said before the client knew that the server does not speak
    ``syncchat.v1``: what is said later has no nonce.
    """

    nonce: str


#: What :meth:`Client.receive` returns.
Event = FromServer | Line | Gap | Disconnected | Reconnected | Sent


def ending(code: int, reason: str) -> str:
    """How a connection ended, in a line that is safe for a terminal."""
    if code in (NORMAL, NO_CODE):
        return "The server has closed the connection."
    if code == GOING_AWAY:
        return "The server is gone: it has stopped."
    if code == ABNORMAL:
        because = f" ({clean(reason)})" if reason else ""
        return f"The server is gone: the connection was lost{because}.".replace("\n", " ")
    because = f": {reason}" if reason else ""
    return clean(f"The server has closed the connection, {meaning(code)}{because}").replace(
        "\n", " "
    )
