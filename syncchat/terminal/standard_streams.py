"""Standard input and standard error of the client in a pipe."""

from __future__ import annotations

import codecs
import contextlib
import errno
import os
import selectors
import socket
import stat
import sys
import threading
from collections.abc import Callable, Iterator

__all__ = ["LONGEST", "StandardError", "input_counter", "input_lines"]

# Not epoll, which refuses regular files.
_Selector: type[selectors.BaseSelector] = getattr(
    selectors, "PollSelector", selectors.SelectSelector
)

#: The most characters of a line: many times what a server accepts.
LONGEST = 4 * 1024 * 1024

#: The largest file whose lines are counted, and the size of one read, in bytes.
_COUNTED, _PIECE = 64 * 1024 * 1024, 1024 * 1024

#: The columns assumed for a terminal that does not report them.
_COLUMNS = 80


def input_counter() -> Callable[[], int | None]:
    """Return a function that counts the lines of standard input, from its current position.

    The function returns None for a pipe or a large file, and does not move the file's
    own offset.
    """
    descriptor, begin = sys.stdin.fileno(), 0
    with contextlib.suppress(OSError):
        # A pipe has no position.
        begin = os.lseek(descriptor, 0, os.SEEK_CUR)

    def count() -> int | None:
        try:
            return _count_lines(descriptor, begin)
        except OSError:
            return None

    return count


def _count_lines(descriptor: int, begin: int) -> int | None:
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


class StandardError:
    """Any thread may call every method. Write errors are ignored."""

    def __init__(self) -> None:
        #: Whether a progress line can be shown.
        self.is_terminal = sys.stderr.isatty()
        #: Guards the fields below, and the order of writes. Last in the lock order.
        self._lock = threading.Lock()
        self._progress = ""
        #: The progress line that is on the screen now.
        self._shown = ""

    def tell(self, line: str) -> None:
        """Print a line above the progress line."""
        with self._lock:
            self._write_locked(line + "\n", self._progress)

    def show(self, progress: str) -> None:
        """Show ``progress``, in ASCII, instead of the last progress line. Empty: none."""
        if self.is_terminal:
            with self._lock:
                self._progress = progress
                self._write_locked("", progress)

    def hide(self) -> None:
        """Remove the progress line from the screen until the next call of another method."""
        with self._lock:
            self._write_locked("", "")

    def _write_locked(self, text: str, progress: str) -> None:
        assert self._lock.locked()
        if self._shown == progress and not text:
            return
        # Erase with blanks: a dumb terminal knows no escape sequences.
        erase = f"\r{' ' * len(self._shown)}\r" if self._shown else ""
        self._shown = progress[: self._columns() - 1] if progress else ""
        try:
            print(f"{erase}{text}{self._shown}", end="", file=sys.stderr, flush=True)
        except OSError:
            # The reader is gone, as in `2>&1 | head`. The text stays in Python's buffer:
            # without another descriptor, Python would fail to write it at the end, and
            # exit with 120.
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, sys.stderr.fileno())
            os.close(null)

    def _columns(self) -> int:
        try:
            return os.get_terminal_size(sys.stderr.fileno()).columns or _COLUMNS
        except OSError:
            return _COLUMNS
