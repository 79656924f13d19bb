"""What the views of all frameworks do with a WebSocket."""

from __future__ import annotations

import os

from syncchat.net import Group, WebSocket

__all__ = ["SECRET", "everybody", "talk"]

#: The views' own answers, which must not reach a client that has a WebSocket.
SECRET = "this must not reach the client" * 100

everybody = Group()


def talk(websocket: WebSocket) -> None:
    """Greet the client and send what it says to everybody, until it leaves."""
    everybody.add(websocket, f"hello from {os.getpid()}")
    for message in websocket:
        if message == "fail":
            raise ZeroDivisionError
        everybody.send(message)
