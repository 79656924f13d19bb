"""A server whose events are controlled by a test."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Self

import msgspec

from syncchat.chat.events import (
    SUBPROTOCOL,
    Ack,
    ClientLimits,
    FromServer,
    Message,
    Say,
    Welcome,
    decode_from_client,
    encode,
)
from syncchat.errors import ConnectionClosed
from syncchat.net import WebSocket, serve
from tests.peer import wait_for

__all__ = ["Stage", "closing_with", "welcome"]


def welcome(offset: int = 0, nick: str = "ann", form: str = "{sender}: {text}") -> Welcome:
    limits = ClientLimits(65536, 32, 10.0, 20)
    return Welcome("lobby", nick, "e", offset, [nick, "bob"], "s", limits, form)


class Stage:
    """Speaks ``syncchat.v1``, welcomes every client, and sends no other answer by itself."""

    def __init__(
        self,
        *,
        offset: int = 0,
        nick: str = "ann",
        form: str = "{sender}: {text}",
        members: Sequence[str] = ("ann", "bob"),
    ) -> None:
        self._offset = offset
        self._welcome = msgspec.structs.replace(welcome(offset, nick, form), members=list(members))
        #: Guards ``heard``.
        self._lock = threading.Lock()
        self.heard: list[object] = []
        self.clients: list[WebSocket] = []
        self._server = serve(self._handle, subprotocols=[SUBPROTOCOL])

    @property
    def url(self) -> str:
        return f"127.0.0.1:{self._server.port}"

    def _handle(self, websocket: WebSocket) -> None:
        websocket.send(encode(self._welcome))
        self.clients.append(websocket)
        for text in websocket:
            assert isinstance(text, str)
            with self._lock:
                self.heard.append(decode_from_client(text))

    def tell(self, *events: FromServer) -> None:
        """Send events to the client that connected last."""
        for event in events:
            self.clients[-1].send(encode(event))

    def say(self, text: str, nick: str = "bob", time: float = 0.0, **more: str) -> None:
        """Send a message of another member."""
        self._offset += 1
        self.tell(Message(self._offset, time, nick, text, "message", **more))

    def wait_for_said(self, count: int = 1) -> list[Say]:
        """The messages received, at least ``count``."""

        def said() -> list[Say]:
            with self._lock:
                return [event for event in self.heard if isinstance(event, Say)]

        wait_for(lambda: len(said()) >= count)
        return said()

    def acknowledge(self, count: int = 1) -> None:
        """Acknowledge all received messages, at least ``count``."""
        for said in self.wait_for_said(count):
            assert said.nonce is not None
            self._offset += 1
            self.tell(Ack(said.nonce, self._offset, "e"))

    def wait_for_client(self, count: int = 1) -> None:
        wait_for(lambda: len(self.clients) >= count)

    def close(self, code: int, reason: str) -> None:
        """Close the last connection."""
        try:
            self.clients[-1].close(code, reason)
        except ConnectionClosed:
            return

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._server.stop()


@contextmanager
def closing_with(code: int, subprotocols: tuple[str, ...] = ()) -> Iterator[tuple[str, list[int]]]:
    """A foreign server that closes at once, and the number of its connections."""
    asked: list[int] = []

    def handler(websocket: WebSocket) -> None:
        asked.append(code)
        websocket.send("a line")
        if code == 1006:
            websocket.abort()
        else:
            websocket.close(code, "so it is")

    with serve(handler, subprotocols=subprotocols) as server:
        yield f"ws://127.0.0.1:{server.port}/", asked
