"""What the prompt's application leaves to its owner: calls from other threads, and wiping."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from prompt_toolkit.application import Application
from prompt_toolkit.output import Output
from prompt_toolkit.output.vt100 import Vt100_Output

__all__ = ["HoldingOutput", "call_in", "release", "rows_to_cursor", "wipe"]

#: Begin and end of a synchronized update (DEC private mode 2026): the terminal shows
#: nothing of what is between them before the end. Other terminals ignore both.
_BEGIN_UPDATE, _END_UPDATE = "\x1b[?2026h", "\x1b[?2026l"


class HoldingOutput(Vt100_Output):
    """A terminal that can hold back its output, and then write all of it at once.

    prompt_toolkit flushes after each step. Where each flush is a write of its own,
    the terminal shows the states between two steps, in which there is no prompt.

    On the main thread only.
    """

    def __init__(self, like: Vt100_Output) -> None:
        super().__init__(
            like.stdout,
            like.get_size,
            like.term,
            like.default_color_depth,
            like.enable_bell,
            # Nothing depends on where the cursor is, and a terminal that answers
            # late would have its answer typed into the shell.
            enable_cpr=False,
        )
        self._holding = False

    def hold(self) -> None:
        """Write nothing until :meth:`release`."""
        if not self._holding:
            self.write_raw(_BEGIN_UPDATE)
            self._holding = True

    def release(self) -> None:
        """Write what was held back, in one write. Raises :class:`OSError`."""
        if self._holding:
            self.write_raw(_END_UPDATE)
            self._holding = False
            self.flush()

    def flush(self) -> None:
        """Write what is there, unless it is held back. Raises :class:`OSError`."""
        if not self._holding:
            super().flush()


def release(output: Output) -> None:
    """Write what ``output`` holds back, if it is one that does. Raises :class:`OSError`."""
    if isinstance(output, HoldingOutput):
        output.release()


def call_in(app: Application[Any], function: Callable[[], None]) -> bool:
    """Have ``function`` called on the application's thread; from any thread.

    False: it does not run, or not any more.
    """
    loop = app.loop
    if loop is None:
        return False
    # It may end between the two lines.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(function)
        return True
    return False


def rows_to_cursor(app: Application[Any]) -> list[int]:
    """The widths of the application's rows over the cursor, and at last the cursor's column."""
    screen = app.renderer.last_rendered_screen
    if screen is None:
        return [0]
    cursor = screen.get_cursor_position(app.layout.current_window)
    widths = [
        max((at + 1 for at, cell in screen.data_buffer[row].items() if cell.char != " "), default=0)
        for row in range(cursor.y)
    ]
    return [*widths, cursor.x]


def wipe(app: Application[Any], resized: int | None = None) -> None:
    """Wipe the application off the screen, to draw it anew after :meth:`Application.invalidate`.

    A :class:`HoldingOutput` writes nothing before the application is drawn again.

    After the window was resized it begins ``resized`` rows higher than it was
    drawn, and may end anywhere.

    Row by row: where an application begins in the first row of the screen, tmux
    takes its usual "erase below" for a screen that is cleared, and puts it into
    the scrollback.
    """
    output, screen = app.output, app.renderer.last_rendered_screen
    if isinstance(output, HoldingOutput):
        output.hold()
    if not isinstance(output, Vt100_Output) or screen is None:
        app.renderer.erase(leave_alternate_screen=False)
        return
    *above, _ = rows_to_cursor(app)
    output.write_raw("\r")
    output.cursor_up(len(above) + (resized or 0))
    output.reset_attributes()
    # DECSC and DECRC: at the bottom of the screen, down leads nowhere.
    output.write_raw("\x1b7")
    for _ in range(screen.height if resized is None else output.get_size().rows):
        output.erase_end_of_line()
        output.write_raw("\x1b[B")
    output.write_raw("\x1b8")
    output.enable_autowrap()
    # Which forgets what was drawn, and flushes.
    app.renderer.reset(leave_alternate_screen=False)
