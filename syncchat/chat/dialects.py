"""The two dialects between server and client: plain lines, and JSON events."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

from ..errors import BadEvent
from ..net import encode_frame
from .commands import Asked, parse
from .events import SUBPROTOCOL, FromServer, Say, decode_from_client, encode_utf8
from .lines import LineFormat, lines_of, reply
from .sanitize import clean, without_line_end

__all__ = ["Dialect", "JsonDialect", "PlainDialect"]


class Dialect(ABC):
    """Decodes a client's messages and encodes events for it. From any thread."""

    #: Whether a welcome lists the members.
    lists_members = True
    #: Whether a join has only the room's name, so that ``history`` is taken from the URL.
    joins_by_name = False

    @abstractmethod
    def decode(self, message: str | bytes) -> Asked | None:
        """Decode a client's message; None: it asks for nothing. Raises :class:`BadEvent`.

        Texts in the result are as received, not sanitized.
        """

    @abstractmethod
    def encode(self, event: FromServer, nick: str) -> list[bytes]:
        """The event as frames for the client with the nick ``nick``."""

    def encode_all(self, events: Iterable[FromServer], nick: str) -> list[bytes]:
        """Several events as frames."""
        frames: list[bytes] = []
        for event in events:
            frames += self.encode(event, nick)
        return frames

    def moved(self, room: str) -> str:  # noqa: ARG002 - for PlainDialect
        """The greeting of a client that comes from another room; empty for none."""
        return ""


class PlainDialect(Dialect):
    """Lines of text, which any WebSocket client can send and show."""

    lists_members = False
    joins_by_name = True

    def __init__(self, form: LineFormat) -> None:
        self._form = form

    def decode(self, message: str | bytes) -> Asked | None:
        """Parse the line. Ignores binary and empty messages."""
        if not isinstance(message, str):
            return None
        text = without_line_end(message)
        line = clean(text)
        if line.startswith("/"):
            return parse(line)
        # Not sanitized: the event log shows the text as received.
        return Say(text) if line else None

    def encode(self, event: FromServer, nick: str) -> list[bytes]:
        """The event's lines, a frame for each."""
        return [encode_frame(line.encode()) for line in lines_of(event, self._form, nick)]

    def moved(self, room: str) -> str:
        """A line that names the room, since the line of a welcome is only its greeting."""
        return reply(f"You are in {room} now.")


class JsonDialect(Dialect):
    """The JSON dialect, ``syncchat.v1``."""

    def decode(self, message: str | bytes) -> Asked | None:
        """Decode the event."""
        if not isinstance(message, str):
            raise BadEvent(f"An event of {SUBPROTOCOL} is a text message, not a binary one.")
        return decode_from_client(message)

    def encode(self, event: FromServer, nick: str) -> list[bytes]:  # noqa: ARG002 - for PlainDialect
        """The event as one frame, the same for every client."""
        return [encode_frame(encode_utf8(event))]
