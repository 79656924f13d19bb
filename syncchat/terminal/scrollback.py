"""Prints messages above the prompt, so that the terminal's own scrollback keeps them.

Wipes the prompt before that and draws it again after it, all in one write, and draws it
again after a change of the window's size.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from prompt_toolkit.application import Application
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.keys import Keys
from prompt_toolkit.layout.screen import Screen
from prompt_toolkit.output import ColorDepth, Output
from prompt_toolkit.output.vt100 import Vt100_Output
from prompt_toolkit.renderer import print_formatted_text

from .notification import notification
from .style import STYLE, Fragment, wrap

__all__ = [
    "Block",
    "HoldingOutput",
    "Resizing",
    "Scrollback",
    "call_in",
    "release",
    "rows_added",
    "wipe",
]

#: Seconds for which blocks are collected after a print. The first block after a pause
#: is printed at once.
_GATHER = 0.03

#: The most bytes printed between two drawings of the prompt. Together with the prompt,
#: they are less than 2,048 bytes. Linux splits a longer write to a terminal there, and
#: a terminal without synchronized updates may show the first part without the prompt.
_AT_ONCE = 1400

#: Seconds between two prints while blocks are left. In between, the prompt is drawn and
#: the keyboard is read.
_NEXT = 0.001

#: Approximate bytes of the escape sequences of a styled fragment.
_STYLED = 20

#: The most bytes printed when the user leaves.
_AT_LAST = 256 * 1024

#: The most blocks that wait to be printed, and their bytes. A suspended terminal prints
#: nothing; then the client stops reading, and the server waits.
_MOST, _LARGEST = 10_000, 4 * 1024 * 1024

#: Begin and end of a synchronized update (DEC private mode 2026): the terminal shows
#: the output between them all at once. Terminals without this mode ignore both.
_BEGIN_UPDATE, _END_UPDATE = "\x1b[?2026h", "\x1b[?2026l"

#: Seconds to wait for the terminal to report its cursor, which some terminals never do.
_PATIENCE = 0.1

_SIGWINCH = getattr(signal, "SIGWINCH", None)


@dataclass(frozen=True, slots=True)
class Block:
    """The text that shows one event. All lines but the first are indented by ``indent``."""

    fragments: Sequence[Fragment]
    indent: int = 0
    #: Whether the terminal rings.
    rings: bool = False
    #: A safe line for a notification on the desktop when it rings, empty for none.
    notice: str = ""
    #: The nonce of the message that this block answers.
    answers: str | None = None
    #: When the text was sent, if the date is to be shown before it; otherwise None.
    dated: time.struct_time | None = None

    def size(self) -> int:
        """Return the approximate number of bytes that the terminal receives."""
        size = 0
        for style, text in self.fragments:
            size += len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
            size += _STYLED if style else 0
        return size


class Scrollback:
    """The queue of blocks to print. Calls ``printed`` with each nonce whose answer is printed.

    Made by the thread that runs the prompt.
    """

    def __init__(
        self, output: Output, depth: ColorDepth | None, printed: Callable[[str], None]
    ) -> None:
        self._output = output
        self._depth = depth
        self._printed = printed
        #: The thread that runs the prompt.
        self._prompts_thread = threading.current_thread()
        #: Guards the fields below. No other lock is taken while it is held.
        self._lock = threading.Lock()
        self._space = threading.Condition(self._lock)
        self._blocks: deque[tuple[int, Block]] = deque()
        self._size = 0
        #: Whether a call of _print_above() is scheduled.
        self._scheduled = False
        self._app: Application[None] | None = None
        self._held: Callable[[], bool] = bool
        self._closed = False

    def add(self, *blocks: Block) -> None:
        """Queue blocks. Any thread may call this.

        A thread other than the prompt's waits while the queue is full.
        """
        may_wait = threading.current_thread() is not self._prompts_thread
        with self._lock:
            while (
                may_wait
                and not self._closed
                and (len(self._blocks) >= _MOST or self._size >= _LARGEST)
            ):
                self._space.wait()
            for block in blocks:
                size = block.size()
                self._blocks.append((size, block))
                self._size += size
            if not self._scheduled:
                self._schedule_locked()

    def attach(self, app: Application[None], held: Callable[[], bool]) -> None:
        """Start to print above the prompt of ``app``. Only for the prompt's thread.

        Prints nothing while ``held()`` returns True.
        """
        with self._lock:
            self._app, self._held = app, held
            self._schedule_locked()

    def detach(self) -> None:
        """Stop printing, because the prompt has ended, and wake the waiting threads.

        :meth:`flush` prints the rest.
        """
        with self._lock:
            self._app, self._closed = None, True
            self._space.notify_all()

    def flush(self) -> None:
        """Print the queued blocks without a prompt. Only for the prompt's thread."""
        with self._lock:
            blocks = self._take_locked(_AT_LAST)
            left, self._blocks = len(self._blocks), deque()
        if left:
            blocks.append(Block([("class:warning", f"-> {left} more lines were not shown.")]))
        self._print(blocks)

    # Internals.

    def _schedule_locked(self) -> None:
        assert self._lock.locked()
        if self._app is not None and self._blocks and not self._scheduled:
            self._scheduled = call_in(self._app, self._print_above)

    def _take_locked(self, most: int) -> list[Block]:
        """Take blocks of at most ``most`` bytes, but at least one block if there is one."""
        assert self._lock.locked()
        taken: list[Block] = []
        size = 0
        while self._blocks:
            more, block = self._blocks[0]
            if taken and size + more > most:
                break
            self._blocks.popleft()
            taken.append(block)
            size += more
        self._size -= size
        return taken

    def _print_above(self) -> None:
        """Print blocks. Runs on the prompt's thread, in the prompt's loop."""
        with self._lock:
            app = self._app
            if app is None or app.loop is None or not self._blocks:
                self._scheduled = False
                return
            # Without a rendered screen, the prompt is wiped and not drawn again yet.
            # Blocks printed now would go into the same write, so wait.
            held = self._held() or app.renderer.last_rendered_screen is None
            blocks = [] if held else self._take_locked(_AT_ONCE)
            soon = held or bool(self._blocks)
            self._space.notify_all()
        try:
            if blocks:
                # Writes nothing before the prompt is drawn again.
                wipe(app)
                self._print(blocks)
                app.invalidate()
        except Exception as exc:  # noqa: BLE001 - raised by Prompt.run()
            if app.future is not None and not app.future.done():
                app.exit(exception=exc)
        # Repeat until the queue is empty; other threads may have added blocks. The
        # delay starts after the printing, which takes longer than _NEXT: a timer that
        # is due would fire before the prompt is drawn.
        app.loop.call_later(_NEXT if soon else _GATHER, self._print_above)

    def _print(self, blocks: Sequence[Block]) -> None:
        if not blocks:
            return
        columns = self._output.get_size().columns
        fragments: list[Any] = []
        for block in blocks:
            fragments += wrap(block.fragments, columns, block.indent)
            fragments.append(("", "\n"))
        print_formatted_text(self._output, fragments, STYLE, color_depth=self._depth)
        for block in blocks:
            if block.rings and block.notice:
                self._output.write_raw(notification(block.notice))
        if any(block.rings for block in blocks):
            self._output.bell()
            self._output.flush()
        for block in blocks:
            if block.answers is not None:
                self._printed(block.answers)


# Drawing.


class HoldingOutput(Vt100_Output):
    """A terminal output that can hold back data and then write it all at once.

    prompt_toolkit flushes after each step. If each flush were a separate write, the
    terminal would show intermediate states without a prompt.

    Only for the prompt's thread.
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


# Resizing.


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
