"""The lines of standard input, for as long as somebody wants them."""

from __future__ import annotations

import codecs
import contextlib
import errno
import os
import selectors
import socket
import threading
from collections.abc import Iterator

__all__ = ["input_lines"]

# Not epoll, which refuses regular files.
_Selector: type[selectors.BaseSelector] = getattr(
    selectors, "PollSelector", selectors.SelectSelector
)

#: Characters of a line above which the rest is left out: many times what a server takes.
_LONGEST = 4 * 1024 * 1024


def input_lines(descriptor: int, over: socket.socket) -> Iterator[str]:
    """The lines of ``descriptor`` until its end, or until ``over`` turns readable.

    Of a line that no server takes, and no memory should hold, only the beginning.
    """
    descriptor = _waitable(descriptor)
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    rest: list[str] = []
    size = 0
    with over, _Selector() as selector:
        selector.register(over, selectors.EVENT_READ)
        selector.register(descriptor, selectors.EVENT_READ)
        while True:
            if any(key.fileobj is over for key, _ in selector.select()):
                return
            data = _read(descriptor)
            first, *others = decoder.decode(data, final=not data).split("\n")
            if size < _LONGEST:
                rest.append(first)
                size += len(first)
            for line in others:
                yield "".join(rest).removesuffix("\r")
                rest, size = [line], len(line)
            if not data:
                break
    if any(rest):
        yield "".join(rest)


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
