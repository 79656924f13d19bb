"""The dialects: what a client says to a server, and what of it everybody gets.

Made by hand, to cost little. In all of them the text stands in what is sent
and in what comes as it is.
"""

from __future__ import annotations

import itertools
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence

from .frames import EqualFrames, Frames, UnequalFrames, frame_end, server_header

__all__ = ["Dialect", "Events", "Lines", "RelayedEvents", "name_of"]

#: The event that holds a message, as ours writes it. The nonce is as long as our client's.
_HEAD = b'{"type":"message","offset":%d,"time":%a,"nick":"%b","text":"'
_TAIL = b'","kind":"message","nonce":"%012d"}'


def name_of(sock: socket.socket) -> str:
    """What a server calls a client."""
    return ":".join(map(str, sock.getsockname()))


class Dialect(ABC):
    """How the clients of one run talk."""

    #: What they ask for in the handshake, if anything.
    subprotocol: str | None = None
    #: Bytes behind the text of a message that comes.
    tail = 0

    @abstractmethod
    def write(self, sender: socket.socket, text: bytes) -> bytes:
        """The payload by which ``sender`` says ``text``."""

    @abstractmethod
    def frames(self, clients: Sequence[socket.socket], size: int) -> Frames:
        """The frames in which texts of ``size`` bytes come. Raises :class:`RuntimeError`."""

    def welcomed(self, data: bytes) -> bool:  # noqa: ARG002 - the events' need
        """Whether a client has got what it has to, before anybody says anything."""
        return True


class Lines(Dialect):
    """What a client sends comes as ``address: text``."""

    def write(self, sender: socket.socket, text: bytes) -> bytes:  # noqa: ARG002 - the events' need
        return text

    def frames(self, clients: Sequence[socket.socket], size: int) -> Frames:
        names = {len(name_of(sock)) for sock in clients}
        if len(names) != 1:
            raise RuntimeError("the clients' ports differ in length: run it again")
        shown = names.pop() + 2 + size
        return EqualFrames(server_header(shown) + shown)


class Events(Dialect):
    """Our JSON dialect: a ``say`` goes, a ``message`` comes."""

    subprotocol: str | None = "syncchat.v1"
    tail = len(_TAIL % 0)

    def __init__(self) -> None:
        self._number = itertools.count(1)

    def write(self, sender: socket.socket, text: bytes) -> bytes:  # noqa: ARG002 - the relayed' need
        # No nonce twice: a message that comes again under the same is none.
        return b'{"type":"say","text":"%b","nonce":"%012d"}' % (text, next(self._number))

    def frames(self, clients: Sequence[socket.socket], size: int) -> Frames:  # noqa: ARG002 - the lines' need
        # Offsets and times, as they are written, have more digits or fewer.
        return UnequalFrames()

    def welcomed(self, data: bytes) -> bool:
        end = frame_end(data, 0)
        if end is not None and b'{"type":"welcome",' not in data[:end]:
            raise RuntimeError(f"the server does not welcome a client: {data[:100]!r}")
        return end is not None


class RelayedEvents(Events):
    """The same for a server that passes on what it gets: a ``message`` goes."""

    subprotocol = None

    def write(self, sender: socket.socket, text: bytes) -> bytes:
        number = next(self._number)
        head = _HEAD % (number, time.time(), name_of(sender).encode())
        return head + text + _TAIL % number

    def welcomed(self, data: bytes) -> bool:  # noqa: ARG002 - it knows no events
        return True
