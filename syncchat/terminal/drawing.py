"""Drawing around prompt_toolkit's application: calls from other threads, wiping, held output."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from prompt_toolkit.application import Application
from prompt_toolkit.output import Output
from prompt_toolkit.output.vt100 import Vt100_Output

__all__ = ["HoldingOutput", "call_in", "release", "rows_to_cursor", "wipe"]

#: Begin and end of a synchronized update (DEC private mode 2026): the terminal shows
#: the output between them all at once. Terminals without this mode ignore both.
_BEGIN_UPDATE, _END_UPDATE = "\x1b[?2026h", "\x1b[?2026l"


class HoldingOutput(Vt100_Output):
    """A terminal output that can hold back data and then write it all at once.

    prompt_toolkit flushes after each step. If each flush were a separate write, the
    terminal would show intermediate states without a prompt.

    Only for the main thread.
    """

    def __init__(self, like: Vt100_Output) -> None:
        super().__init__(
            like.stdout,
            like.get_size,
            like.term,
            like.default_color_depth,
            like.enable_bell,
            # Nothing here needs the cursor position, and the answer of a slow terminal
            # would end up in the shell's input.
            enable_cpr=False,
        )
        self._holding = False

    def hold(self) -> None:
        """Write nothing until :meth:`release`."""
        if not self._holding:
            self.write_raw(_BEGIN_UPDATE)
            self._holding = True

    def release(self) -> None:
        """Write the held data in one write. Raises :class:`OSError`."""
        if self._holding:
            self.write_raw(_END_UPDATE)
            self._holding = False
            self.flush()

    def flush(self) -> None:
        """Write the buffered data, unless it is held. Raises :class:`OSError`."""
        if not self._holding:
            super().flush()


def release(output: Output) -> None:
    """Write the held data if ``output`` is a :class:`HoldingOutput`. Raises :class:`OSError`."""
    if isinstance(output, HoldingOutput):
        output.release()


def call_in(app: Application[Any], function: Callable[[], None]) -> bool:
    """Call ``function`` on the application's thread. Any thread may call this.

    Returns False if the application is not running.
    """
    loop = app.loop
    if loop is None:
        return False
    # The loop may be closed between these two lines.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(function)
        return True
    return False


def rows_to_cursor(app: Application[Any]) -> list[int]:
    """Return the widths of the application's rows above the cursor, then the cursor's column."""
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
    """Erase the application from the screen. :meth:`Application.invalidate` draws it again.

    A :class:`HoldingOutput` then writes nothing before the application is drawn again.

    ``resized``: after a resize, the application begins this many rows above the place
    where it was drawn, and may end anywhere.

    Erases row by row. If an application begins in the first row of the screen, tmux
    treats the usual "erase below" as clearing the screen, and copies the screen into
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
    # Save and restore the cursor (DECSC, DECRC): on the last row, moving down has no
    # effect, so moving up again would not lead back.
    output.write_raw("\x1b7")
    for _ in range(screen.height if resized is None else output.get_size().rows):
        output.erase_end_of_line()
        output.write_raw("\x1b[B")
    output.write_raw("\x1b8")
    output.enable_autowrap()
    # Forgets what was drawn, and flushes.
    app.renderer.reset(leave_alternate_screen=False)
