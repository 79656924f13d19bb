"""What the prompt's application leaves to its owner: calls from other threads, and wiping."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from prompt_toolkit.application import Application
from prompt_toolkit.output.vt100 import Vt100_Output

__all__ = ["call_in", "rows_to_cursor", "wipe"]


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
    """Wipe the application off the screen.

    After the window was resized it begins ``resized`` rows higher than it was
    drawn, and may end anywhere.

    Row by row: where an application begins in the first row of the screen, tmux
    takes its usual "erase below" for a screen that is cleared, and puts it into
    the scrollback.
    """
    output, screen = app.output, app.renderer.last_rendered_screen
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
