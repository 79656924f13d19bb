"""The lines of standard input, for as long as somebody wants them."""

from __future__ import annotations

import codecs
import contextlib
import errno
import os
import selectors
import socket
import stat
import threading
from collections.abc import Iterator

__all__ = ["LONGEST", "count_lines", "input_lines"]

# Not epoll, which refuses regular files.
_Selector: type[selectors.BaseSelector] = getattr(
    selectors, "PollSelector", selectors.SelectSelector
)

#: Characters that a line may have: many times what a server takes.
LONGEST = 4 * 1024 * 1024

#: Bytes of a file whose lines are counted, and of a piece of it.
_COUNTED, _PIECE = 64 * 1024 * 1024, 1024 * 1024


def count_lines(descriptor: int, begin: int) -> int | None:
    """The lines of a file from the offset ``begin`` on; None for what is no file, or too large.

    Does not move the file's own offset.
    """
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size > _COUNTED or not hasattr(os, "pread"):
        return None
    lines, last = 0, b"\n"
    while piece := os.pread(descriptor, _PIECE, begin):
        lines += piece.count(b"\n")
        begin += len(piece)
        last = piece[-1:]
    return lines + (last != b"\n")


def input_lines(descriptor: int, over: socket.socket) -> Iterator[str | None]:
    """The lines of ``descriptor`` until its end, or until ``over`` turns readable.

    None stands for a line of more than :data:`LONGEST` characters, which no server
    takes and no memory should hold.
    """
    descriptor = _waitable(descriptor)
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    rest: list[str] = []
    size = 0

    def whole() -> str | None:
        return "".join(rest).removesuffix("\r") if size <= LONGEST else None

    with over, _Selector() as selector:
        selector.register(over, selectors.EVENT_READ)
        selector.register(descriptor, selectors.EVENT_READ)
        while True:
            if any(key.fileobj is over for key, _ in selector.select()):
                return
            data = _read(descriptor)
            first, *others = decoder.decode(data, final=not data).split("\n")
            rest.append(first)
            size += len(first)
            if size > LONGEST:
                rest.clear()
            for line in others:
                yield whole()
                rest, size = [line], len(line)
            if not data:
                break
    if size:
        yield whole()


def _waitable(descriptor: int) -> int:
    """A descriptor to read from that can be waited for, beside others."""
    if os.name == "posix":
        return descriptor
    # Elsewhere, sockets can: a thread passes on what comes. It cannot be told
    # to stop while it reads, and ends with the process.
    reading, writing = socket.socketpair()

    def forward() -> None:
        with writing, contextlib.suppress(OSError):
            while data := os.read(descriptor, 65536):
                writing.sendall(data)

    threading.Thread(target=forward, name="syncchat-input", daemon=True).start()
    return reading.detach()


def _read(descriptor: int) -> bytes:
    """What has come; nothing at the end, of which a terminal that is closed is one."""
    try:
        return os.read(descriptor, 65536)
    except OSError as exc:
        if exc.errno == errno.EIO:
            return b""
        raise
