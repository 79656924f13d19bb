"""Tab completion of commands, their arguments, nicks and rooms."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

from .people import People

__all__ = ["ChatCompleter"]


class ChatCompleter(Completer):
    """Completes what is typed. ``commands`` maps each command's name to its arguments.

    ``own_nick`` returns the user's nick. ``rooms`` returns the known rooms, and may ask
    the server for a new list.
    """

    def __init__(
        self,
        commands: dict[str, str],
        people: People,
        own_nick: Callable[[], str | None],
        rooms: Callable[[], Sequence[str]],
    ) -> None:
        self._commands = commands
        self._people = people
        self._own_nick = own_nick
        self._rooms = rooms

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
        nicks = self._people.beginning_with(start.removeprefix("@"), self._own_nick())
        return [at + nick for nick in nicks]

    def _arguments(self, name: str, start: str) -> list[str]:
        """Return the candidates for a command's first argument, according to the command's help."""
        kind = self._commands.get(name, "")
        if name == "unignore":
            folded = start.casefold()
            return [nick for nick in self._people.ignored if nick.casefold().startswith(folded)]
        if kind in ("NAME", "NAME TEXT", "[NAME]") and name != "nick":
            return [f"{nick} " for nick in self._nicks(start)]
        if kind == "ROOM":
            wanted = start.lstrip("#").casefold()
            return [room for room in self._rooms() if room.startswith(wanted)]
        if name == "help":
            return [other for other in self._commands if other.startswith(start.lower())]
        # The choices, as in "off|mention|all".
        choices = kind.strip("[]").split("|") if "|" in kind else []
        if choices:
            return [choice for choice in choices if choice.startswith(start.lower())]
        return [f"{nick} " for nick in self._nicks(start)] if start else []
