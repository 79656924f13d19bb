"""Prints messages above the prompt, so that the terminal's own scrollback keeps them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from prompt_toolkit.application import Application
from prompt_toolkit.output import ColorDepth, Output
from prompt_toolkit.renderer import print_formatted_text

from .drawing import call_in, wipe
from .style import STYLE
from .wrapping import Fragment, wrap

__all__ = ["Block", "Scrollback"]

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


@dataclass(frozen=True, slots=True)
class Block:
    """The text that shows one event. All lines but the first are indented by ``indent``."""

    fragments: Sequence[Fragment]
    indent: int = 0
    #: Whether the terminal rings.
    rings: bool = False
    #: The nonce of the message that this block answers.
    settles: str | None = None

    @property
    def size(self) -> int:
        """The approximate number of bytes that the terminal receives."""
        return sum(
            len(text.encode("utf-8", "replace")) + (_STYLED if style else 0)
            for style, text in self.fragments
        )


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
        self._room = threading.Condition(self._lock)
        self._blocks: deque[Block] = deque()
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
            if may_wait:
                self._room.wait_for(
                    lambda: (len(self._blocks) < _MOST and self._size < _LARGEST) or self._closed
                )
            self._blocks.extend(blocks)
            self._size += sum(block.size for block in blocks)
            self._schedule_locked()

    def attach(self, app: Application[None], held: Callable[[], bool]) -> None:
        """Start to print above the prompt of ``app``. Only for the main thread.

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
            self._room.notify_all()

    def flush(self) -> None:
        """Print the queued blocks without a prompt. Only for the main thread."""
        with self._lock:
            blocks = self._take_locked(_AT_LAST)
            left, self._blocks = len(self._blocks), deque()
        if left:
            blocks.append(Block([("class:warning", f"-> {left} more were not shown.")]))
        self._print(blocks)

    # Internals.

    def _schedule_locked(self) -> None:
        if self._app is not None and self._blocks and not self._scheduled:
            self._scheduled = call_in(self._app, self._print_above)

    def _take_locked(self, most: int) -> list[Block]:
        """Take blocks of at most ``most`` bytes, but at least one block if there is one."""
        taken: list[Block] = []
        size = 0
        while self._blocks:
            more = self._blocks[0].size
            if taken and size + more > most:
                break
            taken.append(self._blocks.popleft())
            size += more
        self._size -= size
        return taken

    def _print_above(self) -> None:
        """Print blocks. Runs on the main thread, in the prompt's loop."""
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
            self._room.notify_all()
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
        if any(block.rings for block in blocks):
            self._output.bell()
            self._output.flush()
        for block in blocks:
            if block.settles is not None:
                self._printed(block.settles)
