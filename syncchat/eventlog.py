"""The server's event log: lines for people, which are the exercise's, or JSON for machines."""

from __future__ import annotations

import json
import time

import msgspec

from .chat.sanitize import escape
from .reach import join_command

__all__ = [
    "Connected",
    "Disconnected",
    "Event",
    "Listening",
    "Received",
    "Refused",
    "Slow",
    "Warned",
    "as_json",
    "as_lines",
]


class Event(msgspec.Struct, frozen=True, tag_field="event", tag=str.lower):
    """Something that happened. ``str`` is the text for people, safe for a terminal."""


class Listening(Event, frozen=True):
    """The server takes clients from now on, at a URL of its page or, without one, for clients."""

    port: int
    url: str

    def __str__(self) -> str:
        # The first line is the exercise's.
        is_page = self.url.startswith("http")
        begin = f"Open {self.url} in a browser, or join" if is_page else "Join"
        return f"listening on port {self.port}\n{begin} with: {join_command(self.url)}"


class Warned(Event, frozen=True, tag="warning"):
    """The operator is to know something about the server's settings."""

    text: str

    def __str__(self) -> str:
        return f"Warning: {self.text}"


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


def as_lines(event: Event) -> list[str]:
    """The event for people."""
    return str(event).split("\n")


def as_json(event: Event) -> list[str]:
    """The event as one line of JSON, with its ``time`` in seconds since 1970.

    In printable ASCII, since it may be looked at in a terminal.
    """
    members = msgspec.to_builtins(event)
    return [json.dumps({"time": time.time(), **members}).replace("\x7f", "\\u007f")]
