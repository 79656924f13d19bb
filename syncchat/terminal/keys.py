"""The keys: those that leave, those that type, and what becomes of a paste."""

from __future__ import annotations

from prompt_toolkit.buffer import Buffer, CompletionState
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.filters import Condition, has_focus
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.keys import Keys

__all__ = ["Paste", "complete", "leaving_keys", "paste_keys", "typing_keys"]


class Paste:
    """A paste of several lines that waits to be confirmed."""

    def __init__(self) -> None:
        #: How many lines; 0: there is none.
        self.lines = 0
        #: Whether there is one.
        self.asks = Condition(lambda: self.lines > 0)


def leaving_keys(buffer: Buffer) -> KeyBindings:
    """Ctrl+C; Ctrl+D where nothing is typed; Ctrl+Z, for a while."""
    bindings = KeyBindings()

    @bindings.add("c-c")
    @bindings.add("<sigint>")
    def _interrupt(event: KeyPressEvent) -> None:
        event.app.exit(exception=KeyboardInterrupt)

    @bindings.add("c-d", filter=has_focus(buffer) & Condition(lambda: not buffer.text))
    def _end_of_input(event: KeyPressEvent) -> None:
        event.app.exit(exception=EOFError)

    @bindings.add("c-z")
    def _suspend(event: KeyPressEvent) -> None:
        event.app.suspend_to_background()

    return bindings


def typing_keys(buffer: Buffer) -> KeyBindings:
    """Enter sends, Alt+Enter begins a line; Tab goes through what can stand here."""
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
            complete(buffer)

    @bindings.add("s-tab", filter=typing)
    def _complete_back(_event: KeyPressEvent) -> None:
        if buffer.complete_state:
            buffer.complete_previous()

    return bindings


def complete(buffer: Buffer) -> None:
    """Put in what can stand here; of several, the first, and Tab goes on to the next.

    At once: a completion that is looked for in the background, as the library
    does it, is lost on whoever types fast.
    """
    asked = CompleteEvent(completion_requested=True)
    found = list(buffer.completer.get_completions(buffer.document, asked))
    if len(found) == 1:
        buffer.apply_completion(found[0])
    elif found:
        buffer.complete_state = CompletionState(buffer.document, found)
        buffer.go_to_completion(0)


def paste_keys(buffer: Buffer, paste: Paste) -> KeyBindings:
    """What is pasted is typed text; of several lines, it asks before it is sent."""
    bindings = KeyBindings()

    @bindings.add(Keys.BracketedPaste, filter=has_focus(buffer))
    def _paste(event: KeyPressEvent) -> None:
        text = event.data.replace("\r\n", "\n").replace("\r", "\n")
        buffer.insert_text(text)
        if "\n" in text.strip("\n"):
            paste.lines = buffer.text.strip("\n").count("\n") + 1

    @bindings.add(Keys.Any, filter=paste.asks)
    def _edit(event: KeyPressEvent) -> None:
        # Whoever types on, goes on editing.
        paste.lines = 0
        buffer.insert_text(event.data)

    @bindings.add("escape", filter=paste.asks, eager=True)
    @bindings.add("n", filter=paste.asks)
    def _go_on_editing(_event: KeyPressEvent) -> None:
        paste.lines = 0

    @bindings.add("y", filter=paste.asks)
    def _send(_event: KeyPressEvent) -> None:
        buffer.validate_and_handle()

    return bindings
