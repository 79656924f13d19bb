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

#: Blocks that are printed in one go, between two looks at the keyboard, and characters.
_AT_ONCE, _AT_ONCE_SIZE = 500, 32 * 1024

#: Characters of what is left that is printed for who leaves.
_AT_LAST = 256 * 1024

#: Blocks that wait to be printed, and their characters. A terminal that was stopped
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
        """How many characters it has."""
        return sum(len(text) for _, text in self.fragments)


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
            blocks = self._take_locked(_MOST, _AT_LAST)
            left, self._blocks = len(self._blocks), deque()
        if left:
            blocks.append(Block([("class:warning", f"-> {left} more were not shown.")]))
        self._print(blocks)

    # Underneath.

    def _schedule_locked(self) -> None:
        if self._app is not None and self._blocks and not self._scheduled:
            self._scheduled = call_in(self._app, self._print_above)

    def _take_locked(self, most: int, largest: int) -> list[Block]:
        """So many blocks at most, and one at least if there is one."""
        taken: list[Block] = []
        size = 0
        while self._blocks and len(taken) < most and (not taken or size < largest):
            taken.append(self._blocks.popleft())
            size += taken[-1].size
        self._size -= size
        return taken

    def _print_above(self) -> None:
        """On the main thread, in the prompt's loop."""
        with self._lock:
            app = self._app
            if app is None or app.loop is None or not self._blocks:
                self._scheduled = False
                return
            blocks = [] if self._held() else self._take_locked(_AT_ONCE, _AT_ONCE_SIZE)
            self._room.notify_all()
        # Until there is nothing more: also what comes meanwhile.
        app.loop.call_later(_GATHER, self._print_above)
        if not blocks:
            return
        try:
            wipe(app)
            self._print(blocks)
            app.invalidate()
        except Exception as exc:  # noqa: BLE001 - raised where the prompt was run
            if app.future is not None and not app.future.done():
                app.exit(exception=exc)

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
