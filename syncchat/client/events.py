"""The client's additions to the server's events: connection changes, lost messages, plain lines."""

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
    """Messages after offset ``after`` are missing, because the server no longer has them.

    ``epoch`` is the epoch of the room's log. If it is unchanged, the missing offsets
    lie between ``after`` and the offset of the next message.
    """

    after: int
    epoch: str


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection is lost, with this close code. The client is about to reconnect."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Reconnected:
    """The connection is restored. The missed messages follow, if the server sends them."""


@dataclass(frozen=True, slots=True)
class Sent:
    """The message with this nonce was sent to a server that acknowledges nothing.

    Only for messages that the program sent before the client knew that the server does
    not speak ``syncchat.v1``. Later messages have no nonce.
    """

    nonce: str


#: The types that :meth:`Client.receive` returns.
Event = FromServer | Line | Gap | Disconnected | Reconnected | Sent


def ending(code: int, reason: str) -> str:
    """Tell how a connection ended, in one line that is safe for a terminal."""
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
