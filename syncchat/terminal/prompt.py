"""The input line, the rows above and below it, and its keys."""

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

#: The input takes at most one part in so many of the screen's rows.
_SHARE = 3


class Prompt:
    """One prompt for the whole conversation. Runs on the main thread.

    With a new prompt for each line, the terminal's own line editing would be active for
    a moment between two lines, and would lose keys.

    ``on_enter`` is called with each typed text. ``above`` and ``status`` return the
    rows above and below the input.
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
        """Whether nothing may be printed at this moment. Only for the main thread."""
        return self._resizing.asking()

    def clear(self) -> None:
        """Clear the screen. Only for the main thread."""
        wipe(self.app)
        self._output.erase_screen()
        self._output.cursor_goto(1, 1)
        self._output.flush()
        self.app.invalidate()

    def run(self, started: Callable[[], None]) -> None:
        """Show the prompt until :meth:`end` is called or the user leaves.

        Calls ``started`` when the prompt is running. Raises :class:`EOFError` for
        Ctrl+D and the end of the input, :class:`KeyboardInterrupt` for Ctrl+C, and
        :class:`OSError` if the terminal is closed.
        """

        def begin() -> None:
            started()
            self._resizing.attach(self.app)
            if self._over:
                self._exit()

        try:
            self.app.run(pre_run=begin)
        finally:
            # Output may have been held after the last drawing of the prompt.
            release(self._output)

    def end(self) -> None:
        """Make :meth:`run` return. Any thread and any signal handler may call this."""
        # A prompt that is about to start checks _over in begin(). A running prompt has
        # a loop for the call; after its end, the call has no effect.
        self._over = True
        call_in(self.app, self._exit)

    @property
    def text(self) -> str:
        """The text that is typed but not sent."""
        return self._input.text

    def refresh(self) -> None:
        """Draw the rows above and below the input again. Any thread may call this."""
        call_in(self.app, self.app.invalidate)

    def complete_again(self) -> None:
        """Repeat a Tab that found nothing, now that more is known. Any thread may call this."""
        buffer = self._input.buffer

        def again() -> None:
            if self._tab.asked == buffer.document:
                complete(buffer)
            self._tab.asked = None

        call_in(self.app, again)

    # Internals.

    def _drawn(self, app: Application[None]) -> None:
        """Write the drawn prompt, and the text printed above it, to the terminal."""
        try:
            release(self._output)
        except OSError as exc:
            # Makes run() raise the exception.
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
        """Handle Enter. Returns False, which discards the text."""
        self._tab.asked = None
        self._paste.forget(buffer)
        # Bytes from the terminal that are not UTF-8 arrive as lone surrogates.
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
