"""Where the log of the server command goes, and in which form."""

from __future__ import annotations

import argparse
import contextlib
import errno
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Self, TypedDict

from ..eventlog import masked
from ..server_log import PRIORITIES

__all__ = ["Diagnostics", "check_log", "is_journal", "log_form", "open_log", "reopen_log"]


def open_log(options: argparse.Namespace) -> int | None:
    """The descriptor for the log; None: there is no log. Raises :class:`OSError`."""
    if options.quiet:
        return None
    if options.log_file is not None:
        return _open(options.log_file)
    # If the parent process closed standard output, there is no log.
    return None if sys.stdout is None else sys.stdout.fileno()


def check_log(options: argparse.Namespace) -> None:
    """Raise :class:`OSError` if the log's file cannot be written. It is not created."""
    if options.quiet or options.log_file is None:
        return
    path = Path(options.log_file)
    if path.exists():
        os.close(os.open(path, os.O_WRONLY | os.O_APPEND))
    else:
        path.parent.stat()
        if not os.access(path.parent, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def reopen_log(options: argparse.Namespace, descriptor: int | None) -> None:
    """Have the descriptor write to the file of that name, which may be a new one.

    Raises :class:`OSError`; then the log goes on where it was.
    """
    if options.log_file is None or descriptor is None:
        return
    new = _open(options.log_file)
    try:
        os.dup2(new, descriptor, inheritable=False)
    finally:
        os.close(new)


def _open(path: str) -> int:
    # Private, as what people say is.
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)


def is_journal(descriptor: int | None) -> bool:
    """Whether what is written to a descriptor goes to systemd's journal: see systemd.exec(5)."""
    if descriptor is None:
        return False
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


logger = logging.getLogger("syncchat")


class LogChanges(TypedDict):
    """The settings of the log that ``reconfigure`` can change."""

    log_level: int
    log_messages: bool
    log_mask: bool


def log_form(options: argparse.Namespace, output: int | None) -> LogChanges:
    """The settings of the log that ``reconfigure`` can change, for a log on ``output``."""
    at_terminal = output is not None and os.isatty(output)
    shown = at_terminal if options.log_messages is None else options.log_messages
    return {
        "log_level": logging.getLevelNamesMapping()[options.log_level.upper()],
        "log_messages": shown,
        "log_mask": options.mask_addresses,
    }


class Diagnostics(logging.Handler):
    """Writes what the package reports to Python's logging: to standard error, or into the log.

    ``write`` takes a line for the log; None: they go to standard error. While it is entered.
    """

    def __init__(
        self, options: argparse.Namespace, output: int | None, write: Callable[[str], None] | None
    ) -> None:
        super().__init__()
        logger.setLevel(options.log_level.upper())
        self._masks = options.mask_addresses
        self._write = write if options.log_file is not None else None
        if self._write is None:
            output = None if sys.stderr is None else sys.stderr.fileno()
        self._has_priorities = is_journal(output)

    def __enter__(self) -> Self:
        logger.addHandler(self)
        return self

    def __exit__(self, *exc_info: object) -> None:
        logger.removeHandler(self)

    def replace_others(self) -> None:
        """Write instead of the handlers that this process has inherited."""
        logger.handlers[:] = [self]

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, each line with its priority for the journal. From any thread."""
        text = self.format(record)
        if self._masks:
            text = masked(text)
        level = max(each for each in PRIORITIES if each <= max(record.levelno, logging.DEBUG))
        prefix = f"<{PRIORITIES[level]}>" if self._has_priorities else ""
        for line in text.splitlines():
            if self._write is not None:
                self._write(prefix + line)
            elif sys.stderr is not None:
                # A terminal that is closed takes no lines.
                with contextlib.suppress(OSError):
                    print(prefix + line, file=sys.stderr, flush=True)
