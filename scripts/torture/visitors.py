"""Clients that do not stay: storms of joins and leaves, and clients that behave badly."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from benchmark.frames import client_frame
from websockets.exceptions import WebSocketException

from .clients import stamp_of
from .foreign import open_json
from .history import Entered, History, Left, Page, Seen, Sent, short
from .plan import ROOMS
from .servers import Node

__all__ = ["flood", "leave_in_mid_frame", "read_nothing", "storm"]

#: Threads of a storm, and the most visitors of one.
_THREADS, _VISITORS = 8, 60

#: Seconds that a visitor waits for anything.
_PATIENCE = 5.0

#: Messages of history that a visitor asks for; messages of a flood, at most.
_HISTORY, _FLOOD = 20, 3000


def storm(node: Node, amount: float, chance: random.Random, name: str, history: History) -> None:
    """Many clients join a room, get its last messages, and leave, all at the same time."""
    count = int(_VISITORS * amount)
    seeds = [chance.randrange(1 << 32) for _ in range(count)]
    with ThreadPoolExecutor(_THREADS, thread_name_prefix=f"{name} visits") as pool:
        for number, seed in enumerate(seeds):
            pool.submit(_visit, node, f"{name}.{number}", random.Random(seed), history)


def _visit(node: Node, name: str, chance: random.Random, history: History) -> None:
    """Join, look around, perhaps say something, and leave with or without a word."""
    room = chance.choice(ROOMS)
    nick = name.replace(".", "-")
    url = f"{node.url}/{room}?nick={nick}&history={_HISTORY}"
    # A server that has been killed meanwhile refuses or ends it.
    with contextlib.suppress(WebSocketException, OSError, TimeoutError), open_json(url) as visitor:
        epoch = ""
        if chance.random() < 0.3:
            text = f"{nick.replace('-', '')}.1"
            history.write(Sent, name, room, text)
            visitor.send(json.dumps({"type": "say", "text": text, "nonce": text}))
        for _ in range(chance.randrange(1, 30)):
            event = json.loads(visitor.recv(chance.uniform(0.05, 1.0)))
            match event["type"]:
                case "welcome":
                    epoch = event["epoch"]
                    history.write(Entered, name, room, epoch, event["offset"])
                case "history":
                    offsets = [each["offset"] for each in event["messages"]] or [0]
                    page = ("", event["complete"], offsets[0], offsets[-1])
                    history.write(Page, name, room, epoch, *page)
                    for message in event["messages"]:
                        _see(name, room, epoch, message, history)
                case "message":
                    _see(name, room, epoch, event, history)
                case _:
                    pass
        if chance.random() < 0.3:
            visitor.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            visitor.socket.shutdown(socket.SHUT_RDWR)
    history.write(Left, name)


def _see(name: str, room: str, epoch: str, event: dict[str, object], history: History) -> None:
    offset, text = event["offset"], short(str(event["text"]))
    stamp = stamp_of(str(event["nick"]), event["time"], event.get("nonce"))  # type: ignore[arg-type]
    history.write(Seen, name, room, epoch, offset, text, stamp)


# Clients that behave badly, on bare sockets.


def _connected(node: Node, room: str, nick: str) -> socket.socket:
    """A connection whose handshake is answered."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.settimeout(_PATIENCE)
    try:
        sock.connect(("127.0.0.1", node.proxy.port))
        sock.sendall(
            f"GET /{room}?nick={nick} HTTP/1.1\r\nHost: 127.0.0.1:{node.proxy.port}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        sock.recv(1024)
    except OSError:
        sock.close()
        raise
    return sock


def read_nothing(node: Node, name: str, over: threading.Event) -> None:
    """Join, and read nothing until ``over``."""
    with contextlib.suppress(OSError), _connected(node, ROOMS[0], name):
        over.wait()


def flood(node: Node, name: str, seconds: float, history: History) -> None:
    """Send as fast as the server takes it."""
    with contextlib.suppress(OSError), _connected(node, ROOMS[0], name) as sock:
        reader = threading.Thread(target=_drain, args=(sock,), name=f"{name} reads", daemon=True)
        reader.start()
        end, number = time.monotonic() + seconds, 0
        try:
            sock.settimeout(0.5)
            while time.monotonic() < end and number < _FLOOD:
                number += 1
                text = f"{name}.{number} {'x' * 200}"
                history.write(Sent, name, ROOMS[0], short(text))
                sock.sendall(client_frame(text.encode()))
        finally:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            reader.join()


def _drain(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            try:
                if not sock.recv(65536):
                    return
            except TimeoutError:
                continue


def leave_in_mid_frame(node: Node, name: str, chance: random.Random) -> None:
    """Send a part of a frame, and go: with FIN, or with RST."""
    with contextlib.suppress(OSError), _connected(node, ROOMS[0], name) as sock:
        frame = client_frame(f"{name}.1 {'x' * chance.randrange(2000)}".encode())
        sock.sendall(frame[: chance.randrange(1, len(frame))])
        if chance.random() < 0.5:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
