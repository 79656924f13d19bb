"""The dialects: what a client sends to a server, and what the members of its room receive.

Messages are made by hand, which costs little CPU. In all dialects the text is contained
unchanged in the message that is sent and in the one that is received.
"""

from __future__ import annotations

import itertools
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence

from .frames import EqualFrames, Frames, UnequalFrames, frame_end, server_header

__all__ = ["Dialect", "Events", "Lines", "RelayedEvents", "SocketIo", "name_of"]

#: The event of a message as syncchat writes it. The nonce is as long as the syncchat client's.
_HEAD = b'{"type":"message","offset":%d,"time":%a,"nick":"%b","text":"'
_TAIL = b'","kind":"message","nonce":"%012d"}'


def name_of(sock: socket.socket) -> str:
    """Return the name that a server gives to a client: its address."""
    return ":".join(map(str, sock.getsockname()))


def _equal_frames(clients: Sequence[socket.socket], size: int) -> Frames:
    """Return the frames with the name of a client, ``: ``, and ``size`` bytes more."""
    names = {len(name_of(sock)) for sock in clients}
    if len(names) != 1:
        raise RuntimeError("the clients' ports differ in length: run the benchmark again")
    shown = names.pop() + 2 + size
    return EqualFrames(server_header(shown) + shown)


class Dialect(ABC):
    """How the clients of one run talk to the server."""

    #: The subprotocol to ask for in the handshake, if any.
    subprotocol: str | None = None
    #: Bytes after the text in a received message.
    tail = 0
    #: What a client sends when its handshake is complete, if anything.
    first = b""

    def target(self, path: str) -> str:
        """Return what a client requests to enter the room that ``path`` names."""
        return path

    @abstractmethod
    def write(self, sender: socket.socket, text: bytes) -> bytes:
        """Return the payload with which ``sender`` sends ``text``."""

    @abstractmethod
    def frames(self, clients: Sequence[socket.socket], size: int) -> Frames:
        """Return the frames that carry texts of ``size`` bytes. Raises :class:`RuntimeError`."""

    def welcomed(self, data: bytes) -> bool:  # noqa: ARG002 - the events' need
        """Whether ``data`` contains all that a client must receive before the first message."""
        return True


class Lines(Dialect):
    """Plain lines: a text arrives as ``address: text``."""

    def write(self, sender: socket.socket, text: bytes) -> bytes:  # noqa: ARG002 - the events' need
        return text

    def frames(self, clients: Sequence[socket.socket], size: int) -> Frames:
        return _equal_frames(clients, size)


class Events(Dialect):
    """syncchat's JSON dialect: a client sends ``say`` and receives ``message``."""

    subprotocol: str | None = "syncchat.v1"
    tail = len(_TAIL % 0)

    def __init__(self) -> None:
        self._number = itertools.count(1)

    def write(self, sender: socket.socket, text: bytes) -> bytes:  # noqa: ARG002 - the relayed' need
        # Each nonce is new: the server does not store a message again under a known nonce.
        return b'{"type":"say","text":"%b","nonce":"%012d"}' % (text, next(self._number))

    def frames(self, clients: Sequence[socket.socket], size: int) -> Frames:  # noqa: ARG002 - the lines' need
        # Offsets and times vary in their number of digits.
        return UnequalFrames()

    def welcomed(self, data: bytes) -> bool:
        end = frame_end(data, 0)
        if end is not None and b'{"type":"welcome",' not in data[:end]:
            raise RuntimeError(f"the server sent no welcome: {data[:100]!r}")
        return end is not None


class RelayedEvents(Events):
    """JSON for a server that relays what it receives: a client sends a complete ``message``."""

    subprotocol = None

    def write(self, sender: socket.socket, text: bytes) -> bytes:
        number = next(self._number)
        head = _HEAD % (number, time.time(), name_of(sender).encode())
        return head + text + _TAIL % number

    def welcomed(self, data: bytes) -> bool:  # noqa: ARG002 - it knows no events
        return True


class SocketIo(Dialect):
    """Lines as events of Socket.IO, on a WebSocket from the beginning."""

    tail = len('"]')
    #: Connect to the namespace.
    first = b"40"

    def target(self, path: str) -> str:
        return f"/socket.io/?EIO=4&transport=websocket&room={path.removeprefix('/')}"

    def write(self, sender: socket.socket, text: bytes) -> bytes:  # noqa: ARG002
        return b'42["say","%b"]' % text

    def frames(self, clients: Sequence[socket.socket], size: int) -> Frames:
        return _equal_frames(clients, size + len('42["said",""]'))

    def welcomed(self, data: bytes) -> bool:
        # Twice: by the engine, and by the namespace.
        return b"40{" in data
