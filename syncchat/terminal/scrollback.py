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

from .style import STYLE
from .wrapping import Fragment, wrap

__all__ = ["Block", "Scrollback"]

#: Seconds for which blocks are gathered after some were printed; the first after
#: a pause is shown at once.
_GATHER = 0.03

#: Blocks that are printed in one go, between two looks at the keyboard.
_AT_ONCE = 500

#: Blocks that wait to be printed. A terminal that was stopped takes none, and then
#: the server waits, too.
_MOST = 10_000


@dataclass(frozen=True, slots=True)
class Block:
    """What one event shows: its lines, set in by ``indent`` but for the first."""

    fragments: Sequence[Fragment]
    indent: int = 0
    #: The terminal is to ring.
    rings: bool = False
    #: The nonce that it answers.
    settles: str | None = None


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
        #: Somebody is going to print what is there.
        self._scheduled = False
        self._app: Application[None] | None = None
        self._closed = False

    def add(self, *blocks: Block) -> None:
        """Have blocks printed. From any thread; another than the main one may have to wait."""
        may_wait = threading.current_thread() is not threading.main_thread()
        with self._lock:
            if may_wait:
                self._room.wait_for(lambda: len(self._blocks) < _MOST or self._closed)
            self._blocks.extend(blocks)
            self._schedule_locked()

    def attach(self, app: Application[None]) -> None:
        """From now on there is a prompt, under which nothing is printed. On the main thread."""
        with self._lock:
            self._app = app
            self._schedule_locked()

    def detach(self) -> None:
        """The prompt is gone for good: nobody waits any more; :meth:`flush` prints the rest."""
        with self._lock:
            self._app, self._closed = None, True
            self._room.notify_all()

    def flush(self) -> None:
        """Print all that is there, where no prompt is. On the main thread."""
        with self._lock:
            blocks, self._blocks = self._blocks, deque()
        self._print(blocks)

    # Underneath.

    def _schedule_locked(self) -> None:
        loop = None if self._app is None else self._app.loop
        if loop is not None and self._blocks and not self._scheduled:
            self._scheduled = True
            loop.call_soon_threadsafe(self._print_above)

    def _print_above(self) -> None:
        """On the main thread, in the prompt's loop."""
        with self._lock:
            app = self._app
            blocks = [self._blocks.popleft() for _ in range(min(len(self._blocks), _AT_ONCE))]
            if app is None or not blocks:
                self._scheduled = False
                if blocks:
                    self._blocks.extendleft(reversed(blocks))
                return
            self._room.notify_all()
        app.renderer.erase(leave_alternate_screen=False)
        self._print(blocks)
        app.invalidate()
        # Until there is nothing more: also what comes meanwhile.
        if app.loop is not None:
            app.loop.call_later(_GATHER, self._print_above)

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
