"""The commands of the terminal client: its own, and those of the chat."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from ..chat.commands import COMMANDS, Asked, Command, Help, parse_command
from ..chat.events import Leave, Say
from ..errors import BadEvent
from .style import shorten

__all__ = [
    "ALL_COMMANDS",
    "ARGUMENTS",
    "Clear",
    "GoToRoom",
    "Highlight",
    "Ignore",
    "InvalidCommand",
    "Local",
    "Part",
    "Query",
    "Reconnect",
    "SetBell",
    "Timestamp",
    "Typed",
    "Unhighlight",
    "Unignore",
    "help_text",
    "parse_typed",
]


@dataclass(frozen=True, slots=True)
class SetBell:
    """Set when to ring; show it if ``when`` is empty."""

    when: str


@dataclass(frozen=True, slots=True)
class Timestamp:
    """Show times, or not: ``on`` or ``off``; empty for the opposite."""

    wanted: str


@dataclass(frozen=True, slots=True)
class Ignore:
    """Ignore somebody; list the ignored if ``nick`` is empty."""

    nick: str


@dataclass(frozen=True, slots=True)
class Unignore:
    """End ignoring somebody."""

    nick: str


@dataclass(frozen=True, slots=True)
class Highlight:
    """Mark a word in messages; list the marked words if ``word`` is empty."""

    word: str


@dataclass(frozen=True, slots=True)
class Unhighlight:
    """Stop marking a word."""

    word: str


@dataclass(frozen=True, slots=True)
class GoToRoom:
    """Go to the followed room that ``typed`` fits best; list them if it is empty."""

    typed: str


@dataclass(frozen=True, slots=True)
class Part:
    """Stop following a room, the current one if ``room`` is empty."""

    room: str


@dataclass(frozen=True, slots=True)
class Query:
    """Talk with one person; with the room again if ``nick`` is empty."""

    nick: str


@dataclass(frozen=True, slots=True)
class Reconnect:
    """Connect anew."""


@dataclass(frozen=True, slots=True)
class Clear:
    """Clear the screen."""


@dataclass(frozen=True, slots=True)
class InvalidCommand:
    """A command that does not exist, or whose arguments are wrong; ``text`` says which."""

    text: str


#: The commands that need no server.
Local = Help | SetBell | Timestamp | Ignore | Unignore | Highlight | Unhighlight | Reconnect | Clear


#: What a typed line asks for.
Typed = Asked | Local | GoToRoom | Part | Query | InvalidCommand

#: All commands, in the order of the help. A local command replaces a command of the
#: chat with the same name.
ALL_COMMANDS: dict[str, Command[Asked | Local | GoToRoom | Part | Query]] = {
    **{name: command for name, command in COMMANDS.items() if name != "quit"},
    "help": Command("[COMMAND]", "show this list", Help),
    "bell": Command("off|mention|all", "set when the bell rings", SetBell),
    "timestamp": Command("[on|off]", "show the time before each line", Timestamp),
    "ignore": Command("[NAME]", "ignore a person", Ignore),
    "unignore": Command("NAME", "stop ignoring a person", Unignore),
    "highlight": Command("[WORD]", "mark a word, and ring for it", Highlight),
    "unhighlight": Command("WORD", "stop marking a word", Unhighlight),
    "room": Command("[ROOM]", "go to a room that you follow", GoToRoom),
    "part": Command("[ROOM]", "stop following a room", Part),
    "query": Command("[NAME]", "talk with one person", Query),
    "reconnect": Command("", "connect anew", lambda _: Reconnect()),
    "clear": Command("", "clear the screen", lambda _: Clear()),
    "quit": Command("[REASON]", "leave; the others are told the reason", Leave),
}

#: The arguments of each command, by the command's name.
ARGUMENTS = {name: command.arguments for name, command in ALL_COMMANDS.items()}

#: Spaces between two columns of the help.
_GAP = 2


def parse_typed(text: str) -> tuple[str, Typed]:
    """Parse a typed text. Returns the line to send to a server of plain lines, and the meaning.

    Removes blanks before a command: a private message must not go to the room by
    mistake.
    """
    line = text.lstrip()
    if not line.startswith("/"):
        return text, Say(text)
    try:
        return line, parse_command(line, ALL_COMMANDS)
    except BadEvent as exc:
        if exc.command is None and line != text:
            # Blanks and a slash do not make an unknown command, but a text.
            return text, Say(text)
        return line, InvalidCommand(str(exc))


def help_text(columns: int, rows: int) -> str:
    """List all commands in so many columns and rows; only their names if the list does not fit."""
    entries = [
        (f"/{name} {each.arguments}".rstrip(), each.help) for name, each in ALL_COMMANDS.items()
    ]
    entries.append(("//TEXT", "send a text that begins with a slash"))
    first = max(len(usage) for usage, _ in entries) + _GAP
    whole = first + max(len(text) for _, text in entries) + _GAP
    lines = [f"{usage:<{first}}{text}" for usage, text in entries]
    # Fill the first column from top to bottom, then the next, as a dictionary does.
    side_by_side = max(1, columns // whole)
    height = -(-len(lines) // side_by_side)
    if height > rows:
        names = textwrap.fill(" ".join(f"/{name}" for name in ALL_COMMANDS), columns - 1)
        return f"{names}\n/help COMMAND explains a command."
    table = [lines[at::height] for at in range(height)]
    return "\n".join(
        shorten("".join(f"{cell:<{whole}}" for cell in row).rstrip(), columns) for row in table
    )
