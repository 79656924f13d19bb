"""A terminal emulator for tests of the terminal client."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import Any

import pyte

from syncchat.net import Deadline
from tests.peer import PATIENCE

__all__ = ["Emulator"]


class Emulator(ABC):
    """A terminal emulator, whose screen can be read. Only for the test's thread."""

    def __init__(self, columns: int, rows: int) -> None:
        self._screen = pyte.HistoryScreen(columns, rows, history=20_000, ratio=1)
        self._stream = pyte.ByteStream(self._screen)
        #: Every byte that the client has written.
        self.written = b""
        #: The lines on the screen; None: not known since something was written.
        self._lines: list[str] | None = None

    @abstractmethod
    def _update(self) -> None:
        """Show the client's output. Waits a moment if there is none."""

    def _show(self, data: bytes) -> None:
        self.written += data
        self._stream.feed(data)
        self._lines = None

    def lines(self) -> list[str]:
        """The lines on the screen, without the empty ones at its end."""
        self._update()
        if self._lines is None:
            self._lines = [line.rstrip() for line in self._screen.display]
            while self._lines and not self._lines[-1]:
                self._lines.pop()
        return list(self._lines)

    def wait_for_last(self, pattern: str, patience: float = PATIENCE) -> str:
        """The last line, which is the toolbar, as soon as the whole of it matches ``pattern``."""
        deadline = Deadline.after(patience)
        while True:
            last = self.lines()[-1:]
            if last and re.fullmatch(pattern, last[0]):
                return last[0]
            assert not deadline.expired, (pattern, self.lines())

    def wait_for_line(self, pattern: str) -> str:
        """A line of the screen, as soon as the whole of one matches ``pattern``."""
        deadline = Deadline.after(PATIENCE)
        while True:
            for line in self.lines():
                if re.fullmatch(pattern, line):
                    return line
            assert not deadline.expired, (pattern, self.lines())

    def cells(self, text: str) -> list[Any]:
        """The cells of ``text``, which is somewhere on the screen, with their colors."""
        for row, line in enumerate(self._screen.display):
            begin = line.find(text)
            if begin >= 0:
                return [self._screen.buffer[row][begin + at] for at in range(len(text))]
        raise AssertionError((text, self.lines()))

    def screen(self) -> list[list[Any]]:
        """Every cell, row by row."""
        self._update()
        columns = range(self._screen.columns)
        rows = range(self._screen.lines)
        return [[self._screen.buffer[row][at] for at in columns] for row in rows]

    def scrollback(self) -> list[str]:
        """All lines above the prompt, with those that have left the screen."""
        shown = self.lines()
        columns = range(self._screen.columns)
        above = [
            "".join(row[at].data for at in columns).rstrip() for row in self._screen.history.top
        ]
        prompt = next((at for at, line in enumerate(shown) if line.startswith(">")), len(shown))
        return above + shown[:prompt]
