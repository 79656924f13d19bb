"""What has been said, in the terminal's own scrollback: printed above the prompt."""

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

#: Seconds for which blocks are gathered after some were printed; the first after
#: a pause is shown at once.
_GATHER = 0.03

#: Bytes that are printed between two drawings of the prompt. With the prompt they fit
#: into one read of a pseudo-terminal (4,095 bytes on Linux), so that a terminal that
#: does not know synchronized updates shows no part of them without the prompt.
_AT_ONCE = 3000

#: Seconds from one such printing to the next while blocks are left; the prompt is
#: drawn, and the keyboard is read, in between.
_NEXT = 0.001

#: Bytes that the escape sequences of a styled fragment take, about.
_STYLED = 20

#: Bytes of what is left that is printed for who leaves.
_AT_LAST = 256 * 1024

#: Blocks that wait to be printed, and their bytes. A terminal that was stopped
#: takes none, and then the server waits, too.
_MOST, _LARGEST = 10_000, 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Block:
    """What one event shows: its lines, set in by ``indent`` but for the first."""

    fragments: Sequence[Fragment]
    indent: int = 0
    #: The terminal is to ring.
    rings: bool = False
    #: The nonce that it answers.
    settles: str | None = None

    @property
    def size(self) -> int:
        """How many bytes it takes on the terminal, about."""
        return sum(
            len(text.encode("utf-8", "replace")) + (_STYLED if style else 0)
            for style, text in self.fragments
        )


class Scrollback:
    """``printed`` is called with each nonce whose answer is on the screen."""

    def __init__(
        self, output: Output, depth: ColorDepth | None, printed: Callable[[str], None]
    ) -> None:
        self._output = output
        self._depth = depth
        self._printed = printed
        #: Guards what follows; no other lock is taken under it.
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self._blocks: deque[Block] = deque()
        self._size = 0
        #: Somebody is going to print what is there.
        self._scheduled = False
        self._app: Application[None] | None = None
        self._held: Callable[[], bool] = bool
        self._closed = False

    def add(self, *blocks: Block) -> None:
        """Have blocks printed. From any thread; another than the main one may have to wait."""
        may_wait = threading.current_thread() is not threading.main_thread()
        with self._lock:
            if may_wait:
                self._room.wait_for(
                    lambda: (len(self._blocks) < _MOST and self._size < _LARGEST) or self._closed
                )
            self._blocks.extend(blocks)
            self._size += sum(block.size for block in blocks)
            self._schedule_locked()

    def attach(self, app: Application[None], held: Callable[[], bool]) -> None:
        """From now on there is a prompt, under which nothing is printed. On the main thread.

        Nothing is printed while ``held()`` says so.
        """
        with self._lock:
            self._app, self._held = app, held
            self._schedule_locked()

    def detach(self) -> None:
        """The prompt is gone for good: nobody waits any more; :meth:`flush` prints the rest."""
        with self._lock:
            self._app, self._closed = None, True
            self._room.notify_all()

    def flush(self) -> None:
        """Print all that is there, where no prompt is. On the main thread."""
        with self._lock:
            blocks = self._take_locked(_AT_LAST)
            left, self._blocks = len(self._blocks), deque()
        if left:
            blocks.append(Block([("class:warning", f"-> {left} more were not shown.")]))
        self._print(blocks)

    # Underneath.

    def _schedule_locked(self) -> None:
        if self._app is not None and self._blocks and not self._scheduled:
            self._scheduled = call_in(self._app, self._print_above)

    def _take_locked(self, most: int) -> list[Block]:
        """So many bytes at most, but one block at least if there is one."""
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
        """On the main thread, in the prompt's loop."""
        with self._lock:
            app = self._app
            if app is None or app.loop is None or not self._blocks:
                self._scheduled = False
                return
            # Wiped, and not drawn since: what is printed now goes into the same write.
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
        except Exception as exc:  # noqa: BLE001 - raised where the prompt was run
            if app.future is not None and not app.future.done():
                app.exit(exception=exc)
        # Until there is nothing more: also what comes meanwhile. Printing takes longer
        # than _NEXT, and a timer that is due would come before the prompt is drawn.
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
