"""Standard error of the client in a pipe, and how long its input is."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import threading
from collections.abc import Callable

__all__ = ["StandardError", "input_counter"]

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
