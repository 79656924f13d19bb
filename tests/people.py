"""People in a chat: of our own client the lines that are shown, and clients of either dialect.

The latter are another library's, so that both sides are not wrong alike.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from typing import Any, Self

import psutil
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from syncchat import ChatServer, Client
from syncchat.chat.events import Message
from syncchat.client import Event
from syncchat.net import Deadline
from syncchat.net.connector import parse_url
from tests.peer import PATIENCE, wait_for

__all__ = [
    "GREETING",
    "Json",
    "Plain",
    "cut",
    "line",
    "lines",
    "messages",
    "settled",
    "until",
    "url_of",
]

#: The default greeting.
GREETING = "Welcome to chat! Type a message"


def url_of(chat: ChatServer, path: str = "/") -> str:
    return f"ws://127.0.0.1:{chat.port}{path}"


def line(client: Client) -> str:
    """The next line that is shown."""
    deadline = Deadline.after(PATIENCE)
    while True:
        shown = client.lines(client.receive(deadline.remaining()))
        if shown:
            (only,) = shown
            return only


def lines(client: Client) -> Iterator[str]:
    """Every line until the end."""
    return (shown for event in client for shown in client.lines(event))


def until(client: Client, *kinds: type) -> list[Event]:
    """The events up to one of these kinds, that included."""
    events = [client.receive(PATIENCE)]
    while not isinstance(events[-1], kinds):
        events.append(client.receive(PATIENCE))
    return events


def messages(events: list[Event]) -> list[str]:
    """The texts of the messages among the events."""
    return [event.text for event in events if isinstance(event, Message)]


def cut(client: Client) -> None:
    """Cut the client's connection, as a cable does, and leave the client itself alone.

    No other client in this process may have the same URL.
    """
    port = parse_url(client.url).port
    for connection in psutil.Process().net_connections("tcp"):
        if connection.raddr and connection.raddr.port == port:
            # Meanwhile it may be closed, and its number reused.
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(connection.fd)) as sock:
                if sock.getpeername()[1] == port:
                    sock.shutdown(socket.SHUT_RDWR)


def settled(chat: ChatServer, count: int) -> None:
    """Wait until this many clients are connected."""
    wait_for(lambda: chat.stats().connections == count)


class Plain:
    """A client of the plain dialect."""

    subprotocols: tuple[str, ...] = ()

    def __init__(self, url: str, *entries: str) -> None:
        chosen = [Subprotocol(name) for name in (*self.subprotocols, *entries)]
        self.websocket = connect(
            url,
            subprotocols=chosen or None,
            legacy=True,
            compression=None,
            max_size=None,
            max_queue=None,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.websocket.close()

    @property
    def address(self) -> str:
        host, port = self.websocket.local_address[:2]
        return f"{host}:{port}"

    def send(self, *texts: str) -> None:
        for text in texts:
            self.websocket.send(text)

    def hear(self) -> str:
        """The next text."""
        text = self.websocket.recv(PATIENCE)
        assert isinstance(text, str)
        return text

    def hear_until(self, text: str) -> list[str]:
        """The texts up to ``text``, that included."""
        heard = [self.hear()]
        while heard[-1] != text:
            heard.append(self.hear())
        return heard

    def hear_end(self) -> int:
        """The close code, after all remaining messages."""
        try:
            while True:
                self.websocket.recv(PATIENCE)
        except ConnectionClosed as exc:
            return 1006 if exc.rcvd is None else exc.rcvd.code


class Json(Plain):
    """A client of ``syncchat.v1``."""

    subprotocols = ("syncchat.v1",)

    def ask(self, **event: Any) -> None:
        self.send(json.dumps(event))

    def event(self, *kinds: str) -> dict[str, Any]:
        """The next event, which is one of ``kinds`` if any are named."""
        event: dict[str, Any] = json.loads(self.hear())
        assert not kinds or event["type"] in kinds, event
        return event

    def find(self, wanted: str, /, **values: Any) -> dict[str, Any]:
        """The next event of that kind with these values; others are skipped."""
        while True:
            event = self.event()
            if event["type"] == wanted and values.items() <= event.items():
                return event
