"""A window that becomes narrower: nothing of the prompt stays behind in the scrollback."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import Any

from prompt_toolkit.application import Application
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.keys import Keys
from prompt_toolkit.layout.screen import Screen
from prompt_toolkit.output import Output

from .drawing import rows_to_cursor, wipe

__all__ = ["Resizing", "rows_added"]

#: Seconds in which a terminal says where its cursor is, if it does at all.
_PATIENCE = 0.1

_SIGWINCH = getattr(signal, "SIGWINCH", None)


class Resizing:
    """Draws the prompt anew where it was drawn before. On the main thread.

    Most terminals break a row that has become too long into two, some cut it
    off, and none says so; so prompt_toolkit wipes from where the prompt would
    begin if nothing was broken. Where the difference matters, this asks the
    terminal for its cursor, whose column tells.
    """

    def __init__(self, output: Output) -> None:
        self._output = output
        self._app: Application[Any] | None = None
        #: What was drawn when the terminal was asked for its cursor.
        self._asked: Screen | None = None

    def asking(self) -> bool:
        """Whether the terminal is asked: then nothing may be drawn until it has answered."""
        return self._asked is not None

    @property
    def polling_interval(self) -> float | None:
        """For an application: seconds between two looks at the size; None: a signal tells."""
        return 0.5 if _SIGWINCH is None else None

    def attach(self, app: Application[Any]) -> None:
        """Look after ``app``, which is about to run."""
        self._app = app
        loop = app.loop
        if loop is not None and _SIGWINCH is not None:
            # Behind the application itself, which is not to be told any more.
            loop.call_soon(loop.add_signal_handler, _SIGWINCH, self._resized)

    def bindings(self) -> KeyBindings:
        """What hears the terminal's answer."""
        bindings = KeyBindings()

        @bindings.add(Keys.CPRResponse, save_before=lambda _event: False)
        def _answer(event: KeyPressEvent) -> None:
            self._answered(int(event.data[2:-1].split(";")[1]) - 1)

        return bindings

    # Underneath.

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
        # Unless it was drawn meanwhile, for a key: then the answer is too late.
        if self._app.renderer.last_rendered_screen is self._asked:
            added = rows_added(rows_to_cursor(self._app), self._columns(), column)
        self._draw(added)

    def _draw(self, added: int) -> None:
        """Draw the prompt anew, which begins so many rows higher than it did."""
        self._asked = None
        if self._app is not None:
            wipe(self._app, added)
            self._app.invalidate()

    def _columns(self) -> int:
        return self._output.get_size().columns


def rows_added(widths: Sequence[int], columns: int, column: int) -> int:
    """How many rows a terminal has added that is ``columns`` wide now.

    ``widths`` are those of the rows over the cursor, and at last the cursor's
    column as it was; ``column`` is where it is now.
    """
    *above, before = widths
    if before >= columns and column != before % columns:
        # Cut off, and the cursor moved to the edge.
        return 0
    return sum(max(0, (width - 1) // columns) for width in above) + before // columns
