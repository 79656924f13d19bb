"""The commands of this client's own, and how it helps with all of them."""

from __future__ import annotations

from collections.abc import Callable

from ..chat.commands import COMMANDS, unknown
from .people import People
from .preferences import BELLS, Preferences
from .wrapping import shorten

__all__ = ["ARGUMENTS", "LocalCommands", "help_text"]

#: Behind each name what is written there, and what it does. Those of the chat's
#: that this client does itself are among them.
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

#: What is written behind each command, by their names.
ARGUMENTS = {name: arguments for name, (arguments, _) in _ALL.items()}

#: Columns between two of the help.
_GAP = 2


def help_text(columns: int, rows: int) -> str:
    """All commands, in so many columns and rows; only their names where more has no room."""
    entries = [(f"/{name} {arguments}".rstrip(), text) for name, (arguments, text) in _ALL.items()]
    entries.append(("//TEXT", "say a text that begins with a slash"))
    first = max(len(usage) for usage, _ in entries) + _GAP
    whole = first + max(len(text) for _, text in entries) + _GAP
    lines = [f"{usage:<{first}}{text}" for usage, text in entries]
    # As in a dictionary: down, and then to the right.
    side_by_side = max(1, columns // whole)
    height = -(-len(lines) // side_by_side)
    if height > rows:
        return f"{' '.join(f'/{name}' for name in _ALL)}\n/help COMMAND says more."
    table = [lines[at::height] for at in range(height)]
    return "\n".join(
        shorten("".join(f"{cell:<{whole}}" for cell in row).rstrip(), columns) for row in table
    )


def _split(line: str) -> tuple[str, str]:
    """The name of a command, empty for what is none, and what stands behind it."""
    if not line.startswith("/") or line.startswith("//"):
        return "", ""
    word, *rest = line[1:].split(None, 1) or [""]
    return word.lower(), "".join(rest).strip()


class LocalCommands:
    """Done here, and not by the server. On the main thread.

    ``own_nick`` is what one is called; ``clear`` clears the screen, ``size`` says
    how many columns and rows it has.
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
        """Do what ``line`` asks for: what to tell, empty for nothing; None: it is not for here."""
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
        """What is to be told of a command that there is not; None: there is nothing to tell."""
        name, _ = _split(line)
        if name in _ALL or not line.startswith("/") or line.startswith("//"):
            return None
        return unknown(name, _ALL)

    def _help(self, argument: str) -> str:
        name = argument.removeprefix("/").lower()
        if not name:
            columns, rows = self._size()
            # Beside the indent; besides the heading, the prompt and what is below it.
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
        # The form that they take is as good a word for it.
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
