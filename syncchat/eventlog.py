"""The server's event log: lines for people, or JSON for machines.

The lines have the format of the tokio chat exercise from which this project grew.
"""

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
    """An event to log. ``str(event)`` is its text for people, safe to print on a terminal."""


class Listening(Event, frozen=True):
    """The server accepts clients from now on.

    ``url`` is the URL of the page, or without a page the WebSocket URL for clients.
    """

    port: int
    url: str

    def __str__(self) -> str:
        # The first line has the format of the exercise.
        is_page = self.url.startswith("http")
        begin = f"Open {self.url} in a browser, or join" if is_page else "Join"
        return f"listening on port {self.port}\n{begin} with: {join_command(self.url)}"


class Warned(Event, frozen=True, tag="warning"):
    """A warning to the operator about the server's settings."""

    text: str

    def __str__(self) -> str:
        return f"Warning: {self.text}"


class Connected(Event, frozen=True):
    """A client has connected, and its opening handshake is done."""

    client: str

    def __str__(self) -> str:
        return f"New connection from {self.client}"


class Received(Event, frozen=True):
    """A client has sent a message to its room."""

    client: str
    nick: str
    room: str
    text: str

    def __str__(self) -> str:
        return f"Received from {self.client}: {escape(self.text)}"


class Disconnected(Event, frozen=True):
    """The connection of a client has ended, for any reason."""

    client: str

    def __str__(self) -> str:
        return f"Client {self.client} disconnected"


class Refused(Event, frozen=True):
    """The server refused to open a WebSocket for a client."""

    client: str
    reason: str

    def __str__(self) -> str:
        return f"Refused {self.client}: {escape(self.reason)}"


class Slow(Event, frozen=True):
    """A slow consumer is closed: the client does not read what it is sent."""

    client: str
    reason: str

    def __str__(self) -> str:
        return f"Client {self.client} is {escape(self.reason)}"


def as_lines(event: Event) -> list[str]:
    """The event as lines for people."""
    return str(event).split("\n")


def as_json(event: Event) -> list[str]:
    """The event as one line of JSON, with its ``time`` in seconds since 1970.

    Only printable ASCII, so that the line is safe to print on a terminal.
    """
    members = msgspec.to_builtins(event)
    return [json.dumps({"time": time.time(), **members}).replace("\x7f", "\\u007f")]
