"""The two ways in which clients are spoken to: plain lines, and JSON events."""

from __future__ import annotations

from abc import ABC, abstractmethod

from .commands import Asked, parse
from .events import SUBPROTOCOL, BadEvent, FromServer, Say, decode_from_client, encode
from .lines import LineFormat, lines_of, reply
from .sanitize import clean, without_line_end

__all__ = ["Dialect", "JsonDialect", "PlainDialect"]


class Dialect(ABC):
    """Reads what a client sends, and writes what it is told. From any thread."""

    #: Whether a welcome shows who is there.
    lists_members = True
    #: Whether a join names the room only, so that the URL says what else is wanted.
    joins_by_name = False

    @abstractmethod
    def read(self, message: str | bytes) -> Asked | None:
        """What the client asks for; None: nothing. Raises :class:`BadEvent`.

        Texts in it are as they came, and are not cleaned.
        """

    @abstractmethod
    def write(self, event: FromServer, nick: str) -> list[str]:
        """The event as text messages, for who is called ``nick``."""

    def moved(self, room: str) -> str:  # noqa: ARG002 - the lines' need
        """What greets a client that comes from another room; empty for nothing."""
        return ""


class PlainDialect(Dialect):
    """Lines, as any WebSocket client can send and show them."""

    lists_members = False
    joins_by_name = True

    def __init__(self, form: LineFormat) -> None:
        self._form = form

    def read(self, message: str | bytes) -> Asked | None:
        """What the line means; binary and empty messages are ignored."""
        if not isinstance(message, str):
            return None
        text = without_line_end(message)
        line = clean(text)
        if line.startswith("/"):
            return parse(line)
        # Not cleaned: the log shows the text as it came.
        return Say(text) if line else None

    def write(self, event: FromServer, nick: str) -> list[str]:
        """The event's lines."""
        return lines_of(event, self._form, nick)

    def moved(self, room: str) -> str:
        """A line that names the room, which the welcome shows in no other way."""
        return reply(f"You are in {room} now.")


class JsonDialect(Dialect):
    """``syncchat.v1``."""

    def read(self, message: str | bytes) -> Asked | None:
        """The event that this is."""
        if not isinstance(message, str):
            raise BadEvent(f"An event of {SUBPROTOCOL} is a text message, not a binary one.")
        return decode_from_client(message)

    def write(self, event: FromServer, nick: str) -> list[str]:  # noqa: ARG002 - the lines' need
        """The event, whoever it is for."""
        return [encode(event)]
