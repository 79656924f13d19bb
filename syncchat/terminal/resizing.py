"""Redraws the prompt after a resize, so that no part of it stays in the scrollback."""

from __future__ import annotations

import signal
import threading
from collections.abc import Sequence
from typing import Any

from prompt_toolkit.application import Application
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.keys import Keys
from prompt_toolkit.layout.screen import Screen
from prompt_toolkit.output import Output

from .drawing import rows_to_cursor, wipe

__all__ = ["Resizing", "rows_added"]

#: Seconds to wait for the terminal to report its cursor, which some terminals never do.
_PATIENCE = 0.1

_SIGWINCH = getattr(signal, "SIGWINCH", None)


class Resizing:
    """Draws the prompt again at its old place. Only for the prompt's thread.

    When the window gets narrower, most terminals wrap a row that is too long, and some
    cut it off. No terminal reports which. prompt_toolkit assumes that no row was
    wrapped, and erases from there. If the difference matters, this class asks the
    terminal for the cursor position, whose column gives the answer.
    """

    def __init__(self, output: Output) -> None:
        self._output = output
        self._app: Application[Any] | None = None
        #: The screen that was drawn when the terminal was asked for its cursor; None if it was not.
        self._asked: Screen | None = None

    def asking(self) -> bool:
        """Whether an answer of the terminal is awaited. Nothing may be drawn until it arrives."""
        return self._asked is not None

    @property
    def polling_interval(self) -> float | None:
        """Seconds between two checks of the size, for the application; None if a signal tells."""
        return 0.5 if _SIGWINCH is None else None

    def attach(self, app: Application[Any]) -> None:
        """Handle the resizes of ``app``, which is about to run on the main thread.

        On other threads, which cannot handle signals, resizes go unnoticed.
        """
        self._app = app
        loop = app.loop
        on_main_thread = threading.current_thread() is threading.main_thread()
        if loop is not None and _SIGWINCH is not None and on_main_thread:
            # Runs after the application has set its handler, and replaces it.
            loop.call_soon(loop.add_signal_handler, _SIGWINCH, self._resized)

    def bindings(self) -> KeyBindings:
        """Return the key binding for the terminal's answer."""
        bindings = KeyBindings()

        @bindings.add(Keys.CPRResponse, save_before=lambda _event: False)
        def _answer(event: KeyPressEvent) -> None:
            self._answered(int(event.data[2:-1].split(";")[1]) - 1)

        return bindings

    # Internals.

    def _resized(self) -> None:
        app = self._app
        if app is None or app.loop is None or self._asked is not None:
            return
        screen = app.renderer.last_rendered_screen
        if screen is None or all(width <= self._columns() for width in rows_to_cursor(app)):
            self._draw(0)
            return
        self._asked = screen
        self._output.ask_for_cpr()
        app.loop.call_later(_PATIENCE, self._give_up, screen)

    def _give_up(self, screen: Screen) -> None:
        if self._asked is screen:
            self._draw(0)

    def _answered(self, column: int) -> None:
        if self._app is None or self._asked is None:
            return
        added = 0
        # If the prompt was drawn again meanwhile, for a key press, the answer is out of date.
        if self._app.renderer.last_rendered_screen is self._asked:
            added = rows_added(rows_to_cursor(self._app), self._columns(), column)
        self._draw(added)

    def _draw(self, added: int) -> None:
        """Draw the prompt again. It now begins ``added`` rows higher than before."""
        self._asked = None
        if self._app is not None:
            wipe(self._app, added)
            self._app.invalidate()

    def _columns(self) -> int:
        return self._output.get_size().columns


def rows_added(widths: Sequence[int], columns: int, column: int) -> int:
    """Return how many rows a terminal has added by wrapping at its new width of ``columns``.

    ``widths`` are the widths of the rows above the cursor, and then the cursor's old
    column. ``column`` is its new column.
    """
    *above, before = widths
    if before >= columns and column != before % columns:
        # The terminal cut the rows off and moved the cursor to the edge.
        return 0
    return sum(max(0, (width - 1) // columns) for width in above) + before // columns
