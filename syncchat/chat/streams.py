"""The dialects of followers: events over HTTP, as JSON lines, as an EventSource, or as text.

Each is a value, so that all followers that use the same one share what is encoded.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field, replace

from ..net import encode_chunk
from .dialects import Dialect, LineFormat, lines_of, reply
from .events import Error, FromServer, History, Message, Welcome, encode_utf8

__all__ = ["EventStream", "JsonLines", "StreamDialect", "TextLines"]

#: The code of the last event for a client whose answer breaks off.
_BROKEN_OFF = "unavailable"

#: Milliseconds after which an EventSource reconnects.
_RETRY = 1000


@dataclass(frozen=True, slots=True)
class StreamDialect(Dialect):
    """A dialect of followers. ``chunked``: each event is a chunk of HTTP/1.1."""

    chunked: bool = True

    @property
    @abstractmethod
    def content_type(self) -> str:
        """The media type of the answer."""

    @property
    def keep_alive(self) -> bytes:
        """What means nothing to the client."""
        return b"\n"

    @abstractmethod
    def text_of(self, event: FromServer) -> bytes:
        """The event as bytes of the answer; empty if it is not for this dialect."""

    def decode(self, _message: str | bytes) -> None:
        """A follower asks for nothing."""

    def encode(self, event: FromServer, nick: str) -> list[bytes]:  # noqa: ARG002 - followers have none
        """The event as bytes of the answer; a history as its messages."""
        if isinstance(event, History):
            gap = [] if event.complete else [self.text_of(History((), complete=False))]
            texts = [*gap, *map(self.text_of, event.messages)]
        else:
            texts = [self.text_of(event)]
        texts = [text for text in texts if text]
        return [encode_chunk(text) for text in texts] if self.chunked else texts

    def farewell(self, reason: str) -> bytes:
        """The last event for a client whose answer breaks off."""
        return self.text_of(Error(_BROKEN_OFF, f"The server ends this answer: {reason}."))

    def pause(self, _seconds: float) -> bytes:
        """What asks a client to wait before it reconnects; empty if it cannot be asked."""
        return b""


@dataclass(frozen=True, slots=True)
class JsonLines(StreamDialect):
    """One event of ``syncchat.v1`` per line."""

    content_type = "application/x-ndjson"

    def text_of(self, event: FromServer) -> bytes:
        """The event as a line."""
        return encode_utf8(event) + b"\n"


@dataclass(frozen=True, slots=True)
class EventStream(StreamDialect):
    """Events of ``syncchat.v1`` for an EventSource (HTML, section 9.2).

    A message has its position as id, and the default type. Another event has its own type,
    except for ``error``, which an EventSource uses itself. The welcome comes last, when the
    client has its history: a client that is cut off earlier must not take its position for its own.
    """

    epoch: str = ""

    content_type = "text/event-stream"
    keep_alive = b":\n\n"
    welcome_last = True

    def pause(self, seconds: float) -> bytes:
        """The time until an EventSource reconnects; that of the next welcome replaces it."""
        return b"retry: %d\n\n" % round(1000 * seconds)

    def at(self, epoch: str) -> EventStream:
        """The dialect for a log of this epoch."""
        return self if epoch == self.epoch else replace(self, epoch=epoch)

    def text_of(self, event: FromServer) -> bytes:
        """The event with its id and type."""
        data = encode_utf8(event)
        match event:
            case Message(offset=offset):
                return b"id: %b:%d\ndata: %b\n\n" % (self.epoch.encode(), offset, data)
            case Welcome(epoch=epoch, offset=offset):
                place = b"%b:%d" % (epoch.encode(), offset)
                return b"id: %b\nretry: %d\nevent: welcome\ndata: %b\n\n" % (place, _RETRY, data)
            case Error():
                return b"event: failure\ndata: %b\n\n" % data
            case _:
                kind = type(event).__name__.lower()
                return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)


@dataclass(frozen=True, slots=True)
class TextLines(StreamDialect):
    """Lines for people, as in the plain dialect."""

    form: LineFormat = field(kw_only=True)

    content_type = "text/plain; charset=utf-8"
    lists_members = False
    has_positions = False

    def text_of(self, event: FromServer) -> bytes:
        """The event as lines. The welcome shows that the answer has begun."""
        if isinstance(event, Welcome):
            return f"{reply(f'This is {event.room}.')}\n".encode()
        return "".join(f"{line}\n" for line in lines_of(event, self.form, "")).encode()
