"""Standard error of the client in a pipe: lines, and at a terminal one progress line."""

from __future__ import annotations

import contextlib
import os
import sys
import threading

__all__ = ["StandardError"]

#: The columns assumed for a terminal that does not report them.
_COLUMNS = 80


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
        if self._shown == progress and not text:
            return
        # Erase with blanks: a dumb terminal knows no escape sequences.
        erase = f"\r{' ' * len(self._shown)}\r" if self._shown else ""
        with contextlib.suppress(OSError):
            # If nobody reads, as in `2>&1 | head`, there is nobody to tell.
            self._shown = progress[: self._columns() - 1] if progress else ""
            print(f"{erase}{text}{self._shown}", end="", file=sys.stderr, flush=True)

    def _columns(self) -> int:
        try:
            return os.get_terminal_size(sys.stderr.fileno()).columns or _COLUMNS
        except OSError:
            return _COLUMNS
