"""The history of typed lines, which is kept between runs, except for secrets."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from prompt_toolkit.history import FileHistory, History, InMemoryHistory

__all__ = ["open_history"]

#: The size in bytes above which the older half of the file is discarded.
_LARGEST = 1024 * 1024

#: Substrings of a line that contains a secret.
_SECRET = ("token=", "authorization:")


def open_history(path: Path, token: str | None, warn: Callable[[str], None]) -> History:
    """Open the history of typed lines in the file at ``path``.

    If the file cannot be used, calls ``warn`` once, and the history lasts only as long
    as the process.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Readable by the owner only: the file contains private messages.
        os.close(os.open(path, os.O_CREAT | os.O_APPEND | os.O_RDWR, 0o600))
        _trim(path)
    except OSError as exc:
        warn(f"The input history cannot be saved: {path}: {exc.strerror}.")
        return InMemoryHistory()
    return _HistoryFile(path, token, warn)


class _HistoryFile(FileHistory):
    """A history file that tolerates write errors, and does not store secrets."""

    def __init__(self, path: Path, token: str | None, warn: Callable[[str], None]) -> None:
        self._path = path
        self._token = token
        self._warn: Callable[[str], None] | None = warn
        super().__init__(str(path))

    def load_history_strings(self) -> Iterable[str]:
        """Read the file, or nothing if it cannot be read."""
        try:
            return list(super().load_history_strings())
        except OSError as exc:
            self._complain(exc)
            return []

    def store_string(self, string: str) -> None:
        """Store ``string``, unless it contains a secret."""
        lowered = string.lower()
        if any(word in lowered for word in _SECRET) or (self._token and self._token in string):
            return
        try:
            # Bytes from the terminal that are not UTF-8 arrive as lone surrogates.
            super().store_string(string.encode("utf-8", "replace").decode())
        except OSError as exc:
            self._complain(exc)

    def _complain(self, exc: OSError) -> None:
        if self._warn is not None:
            self._warn(f"The input history is no longer saved: {self._path}: {exc.strerror}.")
            self._warn = None


def _trim(path: Path) -> None:
    """Discard the older half of a file that has become too large. Raises OSError."""
    if path.stat().st_size <= _LARGEST:
        return
    data = path.read_bytes()
    # Each entry begins with an empty line.
    begin = data.find(b"\n\n", len(data) - _LARGEST // 2)
    kept = data[begin + 1 :] if begin >= 0 else b""
    descriptor, shorter = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    with os.fdopen(descriptor, "wb") as file:
        file.write(kept)
    Path(shorter).replace(path)
