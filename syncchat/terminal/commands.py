"""The commands that the client itself carries out, and the help for all commands."""

from __future__ import annotations

from collections.abc import Callable

from ..chat.commands import COMMANDS, unknown
from .people import People
from .preferences import BELLS, Preferences
from .wrapping import shorten

__all__ = ["ARGUMENTS", "LocalCommands", "help_text"]

#: For each local command, its arguments and its help. A local command replaces a
#: command of the chat with the same name.
_LOCAL = {
    "bell": ("off|mention|all", "when to ring"),
    "timestamp": ("[on|off]", "show times"),
    "ignore": ("[NAME]", "do not hear somebody"),
    "unignore": ("NAME", "hear somebody again"),
    "clear": ("", "clear the screen"),
}

_HELP = {name: (command.arguments, command.help) for name, command in COMMANDS.items()}
_QUIT = _HELP.pop("quit")
_ALL = _HELP | {"help": ("[COMMAND]", "this list")} | _LOCAL | {"quit": _QUIT}

#: The arguments of each command, by the command's name.
ARGUMENTS = {name: arguments for name, (arguments, _) in _ALL.items()}

#: Spaces between two columns of the help.
_GAP = 2


def help_text(columns: int, rows: int) -> str:
    """List all commands in so many columns and rows; only their names if the list does not fit."""
    entries = [(f"/{name} {arguments}".rstrip(), text) for name, (arguments, text) in _ALL.items()]
    entries.append(("//TEXT", "say a text that begins with a slash"))
    first = max(len(usage) for usage, _ in entries) + _GAP
    whole = first + max(len(text) for _, text in entries) + _GAP
    lines = [f"{usage:<{first}}{text}" for usage, text in entries]
    # Fill the first column from top to bottom, then the next, as a dictionary does.
    side_by_side = max(1, columns // whole)
    height = -(-len(lines) // side_by_side)
    if height > rows:
        return f"{' '.join(f'/{name}' for name in _ALL)}\n/help COMMAND says more."
    table = [lines[at::height] for at in range(height)]
    return "\n".join(
        shorten("".join(f"{cell:<{whole}}" for cell in row).rstrip(), columns) for row in table
    )


def _split(line: str) -> tuple[str, str]:
    """Return a command's name, and what follows it; an empty name if ``line`` is no command."""
    if not line.startswith("/") or line.startswith("//"):
        return "", ""
    word, *rest = line[1:].split(None, 1) or [""]
    return word.lower(), "".join(rest).strip()


class LocalCommands:
    """The commands that the client carries out itself. Only for the main thread.

    ``own_nick`` returns the user's nick. ``clear`` clears the screen. ``size`` returns
    the screen's columns and rows.
    """

    def __init__(
        self,
        preferences: Preferences,
        people: People,
        own_nick: Callable[[], str | None],
        clear: Callable[[], None],
        size: Callable[[], tuple[int, int]],
    ) -> None:
        self._preferences = preferences
        self._people = people
        self._own_nick = own_nick
        self._clear = clear
        self._size = size

    def run(self, line: str) -> str | None:
        """Carry out ``line``. Returns the text to show, perhaps empty; None if it is not local."""
        name, argument = _split(line)
        action = {
            "help": self._help,
            "bell": self._bell,
            "timestamp": self._timestamp,
            "ignore": self._ignore,
            "unignore": self._unignore,
            "clear": self._clear_screen,
        }.get(name)
        return None if action is None else action(argument)

    def complaint(self, line: str) -> str | None:
        """Return what to say about an unknown command; None if ``line`` is not one."""
        name, _ = _split(line)
        if name in _ALL or not line.startswith("/") or line.startswith("//"):
            return None
        return unknown(name, _ALL)

    def _help(self, argument: str) -> str:
        name = argument.removeprefix("/").lower()
        if not name:
            columns, rows = self._size()
            # Subtract the indent from the columns; the heading, the prompt and the
            # toolbar from the rows.
            return "Commands:\n" + help_text(columns - 4, rows - 3)
        if name not in _ALL:
            return unknown(name, _ALL)
        arguments, text = _ALL[name]
        return f"{f'/{name} {arguments}'.rstrip()}: {text}"

    def _bell(self, argument: str) -> str:
        for bell in BELLS:
            if argument.lower() == bell:
                self._preferences.bell = bell
                return f"The bell is {bell}."
        if argument:
            return "Write it as /bell off|mention|all"
        return f"The bell is {self._preferences.bell}."

    def _timestamp(self, argument: str) -> str:
        shown = self._preferences.timestamps
        # The name of the format works like "on".
        wanted = {"": not shown, "on": True, "hh:mm": True, "off": False}
        if argument.lower() not in wanted:
            return "Write it as /timestamp [on|off]"
        self._preferences.timestamps = wanted[argument.lower()]
        return f"Times are {'on' if self._preferences.timestamps else 'off'}."

    def _ignore(self, argument: str) -> str:
        if len(argument.split()) > 1:
            return "Write it as /ignore NAME"
        nick = argument.removeprefix("@").rstrip(":,")
        if nick and nick.casefold() == (self._own_nick() or "").casefold():
            return "That is you."
        if nick and not self._people.knows(nick):
            return f"There is no {nick} here, and {nick} has said nothing."
        if nick:
            self._people.ignore(nick)
            return f"You do not hear {nick} any more. /unignore {nick} ends it."
        ignored = self._people.ignored
        return f"You ignore {', '.join(ignored)}." if ignored else "You ignore nobody."

    def _unignore(self, argument: str) -> str:
        if not argument:
            return "Write it as /unignore NAME"
        if self._people.unignore(argument):
            return f"You hear {argument} again."
        return f"You do not ignore {argument}."

    def _clear_screen(self, _argument: str) -> str:
        self._clear()
        return ""
