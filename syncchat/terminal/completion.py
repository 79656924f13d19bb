"""Tab completion of commands, their arguments, nicks and rooms."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence

from prompt_toolkit.buffer import Buffer, CompletionState
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

from ..chat.events import RoomsRequest
from ..client import Client
from ..errors import ConnectionClosed, NotConnected
from .model import Model
from .rooms import best_matches
from .style import Fragment, shorten, width_of

__all__ = ["ChatCompleter", "Tab", "candidates_line"]


class ChatCompleter(Completer):
    """Completes what is typed. ``commands`` maps each command's name to its arguments."""

    def __init__(self, client: Client, model: Model, commands: Mapping[str, str]) -> None:
        self._client = client
        self._model = model
        self._commands = commands

    def get_completions(
        self,
        document: Document,
        complete_event: CompleteEvent,  # noqa: ARG002 - the library's signature
    ) -> Iterable[Completion]:
        """Yield the completions. Called on the main thread."""
        before = document.text_before_cursor
        words = before.split(" ")
        start = words[-1].rpartition("\n")[2]
        command = before.startswith("/") and not before.startswith("//")
        if command and len(words) == 1:
            found = [f"/{name} " for name in self._commands if f"/{name}".startswith(start.lower())]
        elif command and len(words) == 2:
            found = self._arguments(words[0][1:].lower(), start)
        elif start or len(words) == 1:
            end = ": " if len(words) == 1 else " "
            found = [name + end for name in self._nicks(start)]
        else:
            found = []
        for text in found:
            yield Completion(text, start_position=-len(start), display=text.rstrip())

    def _nicks(self, start: str) -> list[str]:
        at = "@" if start.startswith("@") else ""
        nicks = self._model.nicks_beginning_with(start.removeprefix("@"), self._client.nick)
        return [at + nick for nick in nicks]

    def _rooms(self) -> Sequence[str]:
        """Return the known rooms, and ask for a new list if the last one is too old."""
        rooms, due = self._model.rooms()
        if due:
            # Without a connection, the known rooms have to do.
            with contextlib.suppress(NotConnected, ConnectionClosed):
                self._model.ask(self._client.ask, RoomsRequest(), by_user=False)
        return rooms

    def _rooms_for(self, command: str) -> list[str]:
        """Return the rooms that ``command`` may mean: those with mentions and activity first."""
        followed = self._model.followed
        if command == "part":
            return [room.name for room in followed.watched]
        names = dict.fromkeys([*followed.by_activity(), *self._rooms()])
        names.pop(self._client.room or "", None)
        return list(names)

    def _arguments(self, name: str, start: str) -> list[str]:
        """Return the candidates for a command's first argument, according to the command's help."""
        kind = self._commands.get(name, "")
        if name == "unignore":
            folded = start.casefold()
            return [nick for nick in self._model.ignored if nick.casefold().startswith(folded)]
        if kind in ("NAME", "NAME TEXT", "[NAME]") and name != "nick":
            return [f"{nick} " for nick in self._nicks(start)]
        if kind in ("ROOM", "[ROOM]"):
            return best_matches(start, self._rooms_for(name))
        if name == "help":
            return [other for other in self._commands if other.startswith(start.lower())]
        # The choices, as in "off|mention|all".
        choices = kind.strip("[]").split("|") if "|" in kind else []
        if choices:
            return [choice for choice in choices if choice.startswith(start.lower())]
        return [f"{nick} " for nick in self._nicks(start)] if start else []


class Tab:
    """The Tab key. If it finds nothing, a later answer of the server may provide candidates.

    Only for the prompt's thread.
    """

    def __init__(self) -> None:
        #: The text for which nothing was found yet.
        self._asked: Document | None = None

    def press(self, buffer: Buffer) -> None:
        """Insert the first candidate, or the next one."""
        if buffer.complete_state:
            buffer.complete_next()
        else:
            self._asked = None if _complete(buffer) else buffer.document

    def press_again(self, buffer: Buffer) -> None:
        """Repeat a Tab that found nothing, unless the text has changed."""
        if self._asked == buffer.document:
            _complete(buffer)
        self._asked = None

    def forget(self) -> None:
        """Do not repeat the last Tab."""
        self._asked = None


def candidates_line(names: Sequence[str], chosen: int | None, columns: int) -> list[Fragment]:
    """Format the candidates of Tab, with the chosen one visible."""
    # Begin with as many earlier candidates as fit beside the chosen one.
    first = chosen or 0
    used = width_of(names[first]) + 2
    while first > 0 and used + width_of(names[first - 1]) + 2 < columns:
        first -= 1
        used += width_of(names[first]) + 2
    shown: list[Fragment] = [("", " ")]
    used = 1
    for at in range(first, len(names)):
        name = names[at]
        style = "class:candidate.current" if at == chosen else ""
        used += width_of(name) + 2
        if used > columns and at > first:
            shown[-1] = ("", " …")
            break
        shown += [(style, shorten(name, columns - 2)), ("", "  ")]
    return shown


def _complete(buffer: Buffer) -> bool:
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
