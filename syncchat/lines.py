"""The lines of standard input, until another thread wants no more."""

from __future__ import annotations

import codecs
import contextlib
import errno
import os
import selectors
import socket
import threading
from collections.abc import Iterator

__all__ = ["LONGEST", "input_lines"]

# Not epoll, which refuses regular files.
_Selector: type[selectors.BaseSelector] = getattr(
    selectors, "PollSelector", selectors.SelectSelector
)

#: The most characters of a line: many times what a server accepts.
LONGEST = 4 * 1024 * 1024


def input_lines(descriptor: int, over: socket.socket) -> Iterator[str | None]:
    """Yield the lines of ``descriptor`` until its end, or until ``over`` turns readable.

    Yields None for a line of more than :data:`LONGEST` characters: no server accepts
    it, and it must not fill the memory. Closes ``over`` at the end.
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
    """Return a descriptor for the same input that a selector can wait for."""
    if os.name == "posix":
        return descriptor
    # On other systems, a selector can wait only for sockets, so a thread forwards the
    # input. The thread cannot be stopped while it reads; it ends with the process.
    reading, writing = socket.socketpair()

    def forward() -> None:
        with writing, contextlib.suppress(OSError):
            while data := os.read(descriptor, 65536):
                writing.sendall(data)

    threading.Thread(target=forward, name="syncchat-input", daemon=True).start()
    return reading.detach()


def _read(descriptor: int) -> bytes:
    """Return the available bytes; empty at the end, and when the terminal was closed."""
    try:
        return os.read(descriptor, 65536)
    except OSError as exc:
        if exc.errno == errno.EIO:
            return b""
        raise
