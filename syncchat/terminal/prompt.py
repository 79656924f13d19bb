"""The input line, the rows above and below it, and its keys."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from prompt_toolkit.application import Application
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.completion import CompleteEvent, Completer
from prompt_toolkit.data_structures import Size
from prompt_toolkit.filters import Condition, has_focus, is_searching
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.history import History
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent, merge_key_bindings
from prompt_toolkit.keys import Keys
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

from .completion import Tab, candidates_line
from .scrollback import Resizing, call_in, release, wipe
from .style import STYLE, Fragment

__all__ = ["Prompt"]

_PROMPT = "> "

#: The command that chooses a room.
_CHOOSE = "/room "

#: The input takes at most one part in so many of the screen's rows.
_SHARE = 3


class Prompt:
    """One prompt for the whole conversation. Runs on the thread that calls :meth:`run`.

    With a new prompt for each line, the terminal's own line editing would be active for
    a moment between two lines, and would lose keys.

    ``above`` and ``status`` return the rows above and below the input.
    """

    def __init__(
        self,
        *,
        output: Output,
        depth: ColorDepth | None,
        history: History,
        completer: Completer,
        above: Callable[[], Sequence[Fragment]],
        status: Callable[[], Sequence[Fragment]],
    ) -> None:
        self._output = output
        self._on_enter: Callable[[str], None] | None = None
        self._switch: Callable[[int], None] | None = None
        self._status = status
        self._resizing = Resizing(output)
        #: Whether nothing may be printed at this moment. Only for the prompt's thread.
        self.held = self._resizing.asking
        self._over = False
        self._search = SearchToolbar()
        self._input = TextArea(
            multiline=True,
            wrap_lines=True,
            dont_extend_height=True,
            height=self._height,
            get_line_prefix=lambda line, wraps: (
                [("class:prompt", _PROMPT)] if line == wraps == 0 else "  "
            ),
            history=history,
            completer=completer,
            complete_while_typing=False,
            accept_handler=self._accept,
            search_field=self._search,
        )
        buffer = self._input.buffer
        self._paste = _Paste(buffer)
        self._tab = Tab()
        #: The text that was typed when the user began to choose a room.
        self._draft: list[str] = []
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
                    _leaving_keys(buffer, self._paste),
                    _typing_keys(buffer, self._tab),
                    _paste_keys(buffer, self._paste),
                    _clearing_keys(self.clear),
                    _room_keys(buffer, self._tab, self._draft, self._go),
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

    def clear(self) -> None:
        """Clear the screen. Only for the prompt's thread."""
        wipe(self.app)
        self._output.erase_screen()
        self._output.cursor_goto(1, 1)
        self._output.flush()
        self.app.invalidate()

    def run(
        self,
        on_enter: Callable[[str], None],
        switch: Callable[[int], None],
        started: Callable[[], None],
    ) -> None:
        """Show the prompt until :meth:`end` is called or the user leaves.

        Calls ``started`` when the prompt is running, ``on_enter`` with each typed text, and
        ``switch`` with the number of the room to go to, 0 for the next one with activity.
        Raises :class:`EOFError` for Ctrl+D and the end of the input,
        :class:`KeyboardInterrupt` for Ctrl+C, and :class:`OSError` if the terminal is closed.
        """
        self._on_enter, self._switch = on_enter, switch

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
    def size(self) -> Size:
        """The size of the screen."""
        return self._output.get_size()

    @property
    def text(self) -> str:
        """The text that is typed but not sent."""
        return self._input.text

    def refresh(self) -> None:
        """Draw the rows above and below the input again. Any thread may call this."""
        call_in(self.app, self.app.invalidate)

    def complete_again(self) -> None:
        """Repeat a Tab that found nothing, now that more is known. Any thread may call this."""
        call_in(self.app, partial(self._tab.press_again, self._input.buffer))

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

    def _go(self, number: int) -> None:
        assert self._switch is not None
        self._switch(number)

    def _height(self) -> Dimension:
        return Dimension(min=1, max=max(1, self._output.get_size().rows // _SHARE))

    def _accept(self, buffer: Buffer) -> bool:
        """Handle Enter. Returns False, which discards the text, unless a draft replaces it."""
        self._tab.forget()
        self._paste.forget(buffer)
        # Bytes from the terminal that are not UTF-8 arrive as lone surrogates.
        assert self._on_enter is not None
        self._on_enter(buffer.text.encode("utf-8", "replace").decode().rstrip("\r\n"))
        if not self._draft:
            return False
        buffer.append_to_history()
        buffer.text = self._draft.pop()
        buffer.cursor_position = len(buffer.text)
        return True

    def _question(self) -> StyleAndTextTuples:
        text = f"Send these {self._paste.lines} lines as one message? y sends, n continues editing."
        return [("class:question", text)]

    def _below(self) -> StyleAndTextTuples:
        buffer, columns = self._input.buffer, self._output.get_size().columns
        state = buffer.complete_state
        if state is not None:
            names = [completion.display_text for completion in state.completions]
            return list(candidates_line(names, state.complete_index, columns))
        if buffer.text.startswith(_CHOOSE):
            # The rooms that fit what is typed; Enter takes the first.
            found = buffer.completer.get_completions(buffer.document, CompleteEvent())
            names = [completion.display_text for completion in found]
            if names:
                return list(candidates_line(names, 0 if buffer.text != _CHOOSE else None, columns))
        return list(self._status())


# Keys.


class _Paste:
    """The question whether to send a pasted text of several lines.

    Further typing ends the question. A reset of the buffer fires no event, so code that
    resets the buffer must call :meth:`forget`.
    """

    def __init__(self, buffer: Buffer) -> None:
        #: The number of lines to send; 0 if there is no question.
        self.lines = 0
        #: Whether the question is open.
        self.asks = Condition(lambda: self.lines > 0)
        buffer.on_text_changed += self.forget
        buffer.on_cursor_position_changed += self.forget

    def forget(self, _buffer: Buffer) -> None:
        """End the question."""
        self.lines = 0


def _leaving_keys(buffer: Buffer, paste: _Paste) -> KeyBindings:
    """Bind Ctrl+C and Ctrl+D, which leave if nothing is typed, and Ctrl+Z, which suspends.

    If something is typed, Ctrl+C clears the input, and Up brings the text back. A
    search handles Ctrl+C itself. A SIGINT from outside, which is no key press, always
    leaves.
    """
    bindings = KeyBindings()
    nothing_typed = Condition(lambda: not buffer.text)

    @bindings.add("c-c", filter=~is_searching & nothing_typed)
    @bindings.add("<sigint>")
    def _interrupt(event: KeyPressEvent) -> None:
        event.app.exit(exception=KeyboardInterrupt)

    @bindings.add("c-c", filter=~is_searching & ~nothing_typed)
    def _clear_input(_event: KeyPressEvent) -> None:
        buffer.reset(append_to_history=bool(buffer.text.strip()))
        paste.forget(buffer)

    @bindings.add("c-d", filter=has_focus(buffer) & nothing_typed)
    def _end_of_input(event: KeyPressEvent) -> None:
        event.app.exit(exception=EOFError)

    @bindings.add("c-z")
    def _suspend(event: KeyPressEvent) -> None:
        event.app.suspend_to_background()

    return bindings


def _clearing_keys(clear: Callable[[], None]) -> KeyBindings:
    """Bind Ctrl+L, which clears the screen."""
    bindings = KeyBindings()

    @bindings.add("c-l")
    def _clear(_event: KeyPressEvent) -> None:
        clear()

    return bindings


def _room_keys(
    buffer: Buffer,
    tab: Tab,
    draft: list[str],
    switch: Callable[[int], None],
) -> KeyBindings:
    """Bind Alt+1 to Alt+9 and Alt+A, which go to a room, and Ctrl+X, which chooses one.

    Ctrl+X keeps the typed text in ``draft``, and begins ``/room`` instead; pressed again, it
    goes through the rooms.
    """
    bindings = KeyBindings()
    typing = has_focus(buffer) & ~is_searching

    def bind(number: int) -> None:
        @bindings.add("escape", str(number), filter=typing)
        def _switch(_event: KeyPressEvent) -> None:
            switch(number)

    for number in range(1, 10):
        bind(number)

    @bindings.add("escape", "a", filter=typing)
    def _switch_to_active(_event: KeyPressEvent) -> None:
        switch(0)

    @bindings.add("c-x", filter=typing, eager=True)
    def _choose(_event: KeyPressEvent) -> None:
        if buffer.text.startswith(_CHOOSE):
            tab.press(buffer)
            return
        draft[:] = [buffer.text] if buffer.text else []
        buffer.text = _CHOOSE
        buffer.cursor_position = len(_CHOOSE)

    return bindings


def _typing_keys(buffer: Buffer, tab: Tab) -> KeyBindings:
    """Bind Enter (send), Alt+Enter (new line) and Tab (next candidate)."""
    bindings = KeyBindings()
    typing = has_focus(buffer)

    @bindings.add("enter", filter=typing)
    def _enter(_event: KeyPressEvent) -> None:
        buffer.validate_and_handle()

    @bindings.add("escape", "enter", filter=typing)
    def _new_line(_event: KeyPressEvent) -> None:
        buffer.newline(copy_margin=False)

    @bindings.add("tab", filter=typing)
    def _complete(_event: KeyPressEvent) -> None:
        tab.press(buffer)

    @bindings.add("s-tab", filter=typing)
    def _complete_back(_event: KeyPressEvent) -> None:
        if buffer.complete_state:
            buffer.complete_previous()

    @bindings.add("c-o", filter=typing)
    def _nothing(_event: KeyPressEvent) -> None:
        # By default, Ctrl+O would send the text.
        pass

    return bindings


def _paste_keys(buffer: Buffer, paste: _Paste) -> KeyBindings:
    """Insert pasted text like typed text; several lines need a confirmation before sending."""
    bindings = KeyBindings()
    asked = has_focus(buffer) & paste.asks

    @bindings.add(Keys.BracketedPaste, filter=has_focus(buffer))
    def _paste(event: KeyPressEvent) -> None:
        text = event.data.replace("\r\n", "\n").replace("\r", "\n")
        buffer.insert_text(text)
        if "\n" in text.strip("\n"):
            paste.lines = buffer.text.strip("\n").count("\n") + 1

    @bindings.add("escape", filter=asked)
    @bindings.add("n", filter=asked)
    def _go_on_editing(_event: KeyPressEvent) -> None:
        paste.forget(buffer)

    @bindings.add("y", filter=asked)
    def _send(_event: KeyPressEvent) -> None:
        buffer.validate_and_handle()

    @bindings.add("enter", filter=asked)
    def _ask_again(_event: KeyPressEvent) -> None:
        # Enter is easily pressed by mistake, so the question stays.
        pass

    return bindings
