"""The server's event log: lines for people, which are the exercise's, or JSON for machines."""

from __future__ import annotations

import json
import time

import msgspec

from .chat.safetext import escape

__all__ = [
    "Connected",
    "Disconnected",
    "Event",
    "Listening",
    "Received",
    "Refused",
    "Slow",
    "as_json",
]


class Event(msgspec.Struct, frozen=True, tag_field="event", tag=str.lower):
    """Something that happened. ``str`` is the line for people, safe for a terminal."""


class Listening(Event, frozen=True):
    """The server takes clients from now on."""

    port: int

    def __str__(self) -> str:
        return f"listening on port {self.port}"


class Connected(Event, frozen=True):
    """A client has come, and its opening handshake is done."""

    client: str

    def __str__(self) -> str:
        return f"New connection from {self.client}"


class Received(Event, frozen=True):
    """A client has said something to its room."""

    client: str
    nick: str
    room: str
    text: str

    def __str__(self) -> str:
        return f"Received from {self.client}: {escape(self.text)}"


class Disconnected(Event, frozen=True):
    """A client has gone, in whatever way."""

    client: str

    def __str__(self) -> str:
        return f"Client {self.client} disconnected"


class Refused(Event, frozen=True):
    """A client got no WebSocket."""

    client: str
    reason: str

    def __str__(self) -> str:
        return f"Refused {self.client}: {escape(self.reason)}"


class Slow(Event, frozen=True):
    """A client is closed since it does not take what it is sent."""

    client: str
    reason: str

    def __str__(self) -> str:
        return f"Client {self.client} is {escape(self.reason)}"


def as_json(event: Event) -> str:
    """The event as one line of JSON, with its ``time`` in seconds since 1970.

    In printable ASCII, since it may be looked at in a terminal.
    """
    members = msgspec.to_builtins(event)
    return json.dumps({"time": time.time(), **members}).replace("\x7f", "\\u007f")
