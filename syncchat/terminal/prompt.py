"""The line that is typed, what stands above and below it, and the keys."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prompt_toolkit.application import Application
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.completion import Completer
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.history import History
from prompt_toolkit.key_binding import merge_key_bindings
from prompt_toolkit.layout import (
    ConditionalContainer,
    Dimension,
    FormattedTextControl,
    HSplit,
    Layout,
    Window,
)
from prompt_toolkit.output import ColorDepth, Output
from prompt_toolkit.widgets import SearchToolbar, TextArea

from .drawing import call_in, release, wipe
from .keys import Paste, Tab, clearing_keys, complete, leaving_keys, paste_keys, typing_keys
from .resizing import Resizing
from .style import STYLE
from .toolbar import candidates_line
from .wrapping import Fragment

__all__ = ["PROMPT", "Prompt"]

PROMPT = "> "

#: Rows that a typed text of many lines takes at most, as a part of the screen.
_SHARE = 3


class Prompt:
    """One prompt for the whole conversation, on the main thread.

    A prompt for each line would leave the terminal to the shell's own line
    editing for the moment between two, in which keys are lost.

    ``on_enter`` gets what was typed; ``above`` and ``status`` return what stands
    over and under the input.
    """

    def __init__(
        self,
        *,
        output: Output,
        depth: ColorDepth | None,
        history: History,
        completer: Completer,
        on_enter: Callable[[str], None],
        above: Callable[[], Sequence[Fragment]],
        status: Callable[[], Sequence[Fragment]],
    ) -> None:
        self._output = output
        self._on_enter = on_enter
        self._status = status
        self._resizing = Resizing(output)
        self._over = False
        self._search = SearchToolbar()
        self._input = TextArea(
            multiline=True,
            wrap_lines=True,
            dont_extend_height=True,
            height=self._height,
            get_line_prefix=lambda line, wraps: (
                [("class:prompt", PROMPT)] if line == wraps == 0 else "  "
            ),
            history=history,
            completer=completer,
            complete_while_typing=False,
            accept_handler=self._accept,
            search_field=self._search,
        )
        buffer = self._input.buffer
        self._paste = Paste(buffer)
        self._tab = Tab()
        rows: list[ConditionalContainer | Window | TextArea | SearchToolbar] = [
            ConditionalContainer(
                Window(
                    FormattedTextControl(lambda: list(above())),
                    dont_extend_height=True,
                ),
                Condition(lambda: bool(above())),
            ),
            self._input,
            ConditionalContainer(
                Window(
                    FormattedTextControl(self._question), dont_extend_height=True, wrap_lines=True
                ),
                self._paste.asks,
            ),
            self._search,
            Window(FormattedTextControl(self._below), height=1, style="class:toolbar"),
        ]
        self.app: Application[None] = Application(
            Layout(HSplit(rows), focused_element=self._input),
            key_bindings=merge_key_bindings(
                [
                    leaving_keys(buffer, self._paste),
                    typing_keys(buffer, self._tab),
                    paste_keys(buffer, self._paste),
                    clearing_keys(self.clear),
                    self._resizing.bindings(),
                ]
            ),
            style=STYLE,
            color_depth=depth,
            erase_when_done=True,
            output=output,
            terminal_size_polling_interval=self._resizing.polling_interval,
            after_render=self._drawn,
        )

    def held(self) -> bool:
        """Whether nothing may be printed at this moment. On the main thread."""
        return self._resizing.asking()

    def clear(self) -> None:
        """Clear the screen. On the main thread."""
        wipe(self.app)
        self._output.erase_screen()
        self._output.cursor_goto(1, 1)
        self._output.flush()
        self.app.invalidate()

    def run(self, started: Callable[[], None]) -> None:
        """Return when somebody has called :meth:`end`, or the user leaves.

        Raises :class:`EOFError` for Ctrl+D and an end of the input,
        :class:`KeyboardInterrupt` for Ctrl+C, :class:`OSError` where the
        terminal is no more. ``started`` is called when there is a prompt.
        """

        def begin() -> None:
            started()
            self._resizing.attach(self.app)
            if self._over:
                self._exit()

        try:
            self.app.run(pre_run=begin)
        finally:
            # Something may have been printed after the prompt was drawn for the last time.
            release(self._output)

    def end(self) -> None:
        """Have :meth:`run` return. From any thread, and from a signal's handler."""
        # The prompt is about to start, or runs, or is over. About to start: it
        # looks whether it is over. Otherwise it has a loop, or had.
        self._over = True
        call_in(self.app, self._exit)

    @property
    def text(self) -> str:
        """What is typed and not entered."""
        return self._input.text

    def refresh(self) -> None:
        """Show what has changed above and below. From any thread."""
        call_in(self.app, self.app.invalidate)

    def complete_again(self) -> None:
        """Complete what Tab was pressed for in vain, now that more is known. From any thread."""
        buffer = self._input.buffer

        def again() -> None:
            if self._tab.asked == buffer.document:
                complete(buffer)
            self._tab.asked = None

        call_in(self.app, again)

    # Underneath.

    def _drawn(self, app: Application[None]) -> None:
        """The prompt is drawn: write it, and what was printed above it."""
        try:
            release(self._output)
        except OSError as exc:
            # Raised where the prompt is run.
            if app.future is None or app.future.done():
                raise
            app.exit(exception=exc)

    def _exit(self) -> None:
        future = self.app.future
        if future is not None and not future.done():
            self.app.exit()

    def _height(self) -> Dimension:
        return Dimension(min=1, max=max(1, self._output.get_size().rows // _SHARE))

    def _accept(self, buffer: Buffer) -> bool:
        """Enter was pressed. False: the text is done with."""
        self._tab.asked = None
        self._paste.forget(buffer)
        # What the terminal sent as no UTF-8 came as lone surrogates.
        self._on_enter(buffer.text.encode("utf-8", "replace").decode().rstrip("\r\n"))
        return False

    def _question(self) -> StyleAndTextTuples:
        text = f"Send these {self._paste.lines} lines as one message? y sends, n goes on editing."
        return [("class:question", text)]

    def _below(self) -> StyleAndTextTuples:
        state = self._input.buffer.complete_state
        if state is None:
            return list(self._status())
        names = [completion.display_text for completion in state.completions]
        columns = self._output.get_size().columns
        return list(candidates_line(names, state.complete_index, columns))
