"""The signals of the server command, which its main thread waits for."""

from __future__ import annotations

import os
import select
import signal
import socket
from collections.abc import Sequence
from types import FrameType

__all__ = [
    "HANGUP",
    "REOPEN",
    "SignalInbox",
    "other_signals",
    "stopping_signals",
    "terminal",
    "wakeup",
]

#: Windows has neither. Under nohup, SIGHUP is ignored, and stays so.
HANGUP: signal.Signals | None = getattr(signal, "SIGHUP", None)
REOPEN: signal.Signals | None = getattr(signal, "SIGUSR1", None)


def stopping_signals() -> list[signal.Signals]:
    """The signals that stop the server in an orderly way."""
    return [signal.SIGINT, signal.SIGTERM]


def other_signals() -> list[signal.Signals]:
    """The signals that make the server read its settings, and open its log, anew."""
    found = [HANGUP, REOPEN]
    return [each for each in found if each and signal.getsignal(each) is not signal.SIG_IGN]


def terminal() -> int | None:
    """A standard stream that is a terminal; None: there is none."""
    return next((each for each in (0, 1, 2) if os.isatty(each)), None)


def wakeup() -> tuple[socket.socket, socket.socket]:
    """A pair of sockets: the first is readable when a signal has come, and has its number."""
    reading, writing = socket.socketpair()
    writing.setblocking(False)
    signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
    return reading, writing


class SignalInbox:
    """The signals that have come, for the main thread, which makes it and closes it."""

    def __init__(self, stopping: Sequence[int], others: Sequence[int]) -> None:
        self._reading, self._writing = wakeup()
        for signum in stopping:
            signal.signal(signum, self._last)
        for signum in others:
            signal.signal(signum, self._note)

    def wait(self, timeout: float | None) -> Sequence[int]:
        """Wait for signals, up to ``timeout`` seconds; their numbers, and 0 for :meth:`wake`."""
        if select.select([self._reading], [], [], timeout)[0]:
            return self._reading.recv(4096)
        return ()

    def wake(self) -> None:
        """Have :meth:`wait` return. From any thread."""
        self._writing.send(b"\0")

    def close(self) -> None:
        """Free the sockets."""
        signal.set_wakeup_fd(-1)
        self._reading.close()
        self._writing.close()

    @staticmethod
    def _last(signum: int, _frame: FrameType | None) -> None:
        # A second signal ends the process at once.
        signal.signal(signum, signal.SIG_DFL)

    @staticmethod
    def _note(signum: int, frame: FrameType | None) -> None:
        """Do nothing: the number is in the inbox."""
