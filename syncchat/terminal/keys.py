"""The key bindings: leaving, typing, completing and pasting."""

from __future__ import annotations

from collections.abc import Callable

from prompt_toolkit.buffer import Buffer, CompletionState
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition, has_focus, is_searching
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.keys import Keys

__all__ = ["Paste", "Tab", "clearing_keys", "complete", "leaving_keys", "paste_keys", "typing_keys"]


class Paste:
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


class Tab:
    """The text for which Tab found nothing yet; a later answer may provide candidates."""

    def __init__(self) -> None:
        self.asked: Document | None = None


def leaving_keys(buffer: Buffer, paste: Paste) -> KeyBindings:
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


def clearing_keys(clear: Callable[[], None]) -> KeyBindings:
    """Bind Ctrl+L, which clears the screen."""
    bindings = KeyBindings()

    @bindings.add("c-l")
    def _clear(_event: KeyPressEvent) -> None:
        clear()

    return bindings


def typing_keys(buffer: Buffer, tab: Tab) -> KeyBindings:
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
        if buffer.complete_state:
            buffer.complete_next()
        else:
            tab.asked = None if complete(buffer) else buffer.document

    @bindings.add("s-tab", filter=typing)
    def _complete_back(_event: KeyPressEvent) -> None:
        if buffer.complete_state:
            buffer.complete_previous()

    @bindings.add("c-o", filter=typing)
    def _nothing(_event: KeyPressEvent) -> None:
        # By default, Ctrl+O would send the text.
        pass

    return bindings


def complete(buffer: Buffer) -> bool:
    """Insert the first candidate; Tab then goes on to the next. Returns False if there is none.

    Works synchronously: the library's completion in the background gets lost if the
    user types fast.
    """
    asked = CompleteEvent(completion_requested=True)
    found = list(buffer.completer.get_completions(buffer.document, asked))
    if len(found) == 1:
        buffer.apply_completion(found[0])
    elif found:
        buffer.complete_state = CompletionState(buffer.document, found)
        buffer.go_to_completion(0)
    return bool(found)


def paste_keys(buffer: Buffer, paste: Paste) -> KeyBindings:
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
