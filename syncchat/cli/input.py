"""``--stdin ROOM``: the server says what another program prints."""

from __future__ import annotations

import logging
import re
import socket
import threading
from collections.abc import Iterator
from typing import Self

from ..chat.sanitize import clean
from ..errors import SyncchatError
from ..lines import input_lines
from ..server import ChatServer

__all__ = ["StdinSpeaker"]

logger = logging.getLogger("syncchat.cli")

#: Characters of a message, at most. A longer line becomes several messages: a client may accept
#: no message of more than 64 KiB, and a character takes up to 6 bytes in JSON.
_LONGEST = 8192

#: A control sequence, such as that of a color (ECMA-48, section 5.4).
_ESCAPE_SEQUENCE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")


class StdinSpeaker:
    """Says the lines of a descriptor in a room of a running server, on a thread of its own.

    At the end of the input, the server goes on.
    """

    def __init__(self, server: ChatServer, room: str, descriptor: int = 0) -> None:
        self._server = server
        self._room = room
        self._descriptor = descriptor
        #: What is sent to the first ends the thread, which waits for the second.
        self._stop, self._over = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="syncchat-stdin", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        """End the thread. Call it after the server has stopped, for which the thread may wait."""
        self._stop.close()
        self._thread.join()

    def _run(self) -> None:
        for line in input_lines(self._descriptor, self._over):
            if line is None:
                logger.warning("a line of the standard input is too long, and is not said")
                continue
            for part in _parts(clean(_shown(line))):
                try:
                    self._server.say(part, self._room)
                except SyncchatError as exc:
                    logger.warning("a line of the standard input is not said: %s", exc)


def _shown(line: str) -> str:
    """What a terminal would show: no escape sequences, and the last state of a progress bar."""
    return _ESCAPE_SEQUENCE.sub("", line.rstrip("\r").rpartition("\r")[2])


def _parts(line: str) -> Iterator[str]:
    """The messages that a line becomes; none for an empty one."""
    for begin in range(0, len(line), _LONGEST):
        yield line[begin : begin + _LONGEST]
