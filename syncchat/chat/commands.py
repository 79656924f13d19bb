"""Parses a line that a person types: a message, or a command.

The commands have the names that ssh-chat gives them, as far as it has them. Most commands
become an event of the JSON dialect; the few requests that the dialect lacks are declared here.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from ..errors import BadEvent
from .events import (
    Action,
    AwayRequest,
    BackRequest,
    FromClient,
    HistoryRequest,
    Join,
    NamesRequest,
    Nick,
    Private,
    RoomsRequest,
    Say,
    Search,
    WhoisRequest,
)

__all__ = [
    "COMMANDS",
    "HELP_TEXT",
    "Asked",
    "Command",
    "Help",
    "Quit",
    "Reply",
    "parse",
    "parse_command",
    "unknown",
]


@dataclass(frozen=True, slots=True)
class Help:
    """Ask for the list of commands, or for the help for one of them."""

    command: str = ""


@dataclass(frozen=True, slots=True)
class Quit:
    """Leave the chat."""


@dataclass(frozen=True, slots=True)
class Reply:
    """Send a private message to the sender of the last private message."""

    text: str


#: What a client can ask for.
Asked = FromClient | Help | Quit | Reply

#: Messages of an answer: by default, and at most.
_USUAL, _MOST = 20, 1000


#: The least similarity (difflib's ratio) of a mistyped name to a command that is suggested:
#: ``/nik`` suggests ``/nick``, but ``/query`` does not suggest ``/quit``.
_NEAR = 0.7


_Request_co = TypeVar("_Request_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Command(Generic[_Request_co]):
    """A command, which is typed behind a slash."""

    #: Its arguments, as the help shows them.
    arguments: str
    #: What it does, in a few words.
    help: str
    #: Makes the request from the text behind the name. Raises ValueError for wrong
    #: arguments, or BadEvent with a text that says more than the usage.
    make: Callable[[str], _Request_co]


def _required(text: str) -> str:
    if not text:
        raise ValueError
    return text


def _private(text: str) -> Private:
    to, *words = text.split(None, 1)
    return Private(_name(to), _required("".join(words)))


def _name(text: str) -> str:
    """The nick in ``text``, without the ``@``, colon or comma of an address to a person."""
    return _required(text.removeprefix("@").rstrip(":,"))


def _history(text: str) -> HistoryRequest:
    if not text:
        return HistoryRequest(limit=_USUAL)
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= _MOST:
        raise BadEvent(f"Usage: /history [N], where N is 1-{_MOST:,}", "history")
    return HistoryRequest(limit=int(text))


#: The commands by name.
COMMANDS: dict[str, Command[Asked]] = {
    "help": Command("", "show this list", lambda _: Help()),
    "nick": Command("NAME", "change your nick", lambda text: Nick(_required(text))),
    "me": Command("TEXT", "send an action", lambda text: Action(_required(text))),
    "msg": Command("NAME TEXT", "send a private message", _private),
    "reply": Command(
        "TEXT", "reply to the last private message", lambda text: Reply(_required(text))
    ),
    "names": Command("", "list the people in this room", lambda _: NamesRequest()),
    "whois": Command("NAME", "show details about a person", lambda text: WhoisRequest(_name(text))),
    "rooms": Command("", "list the rooms", lambda _: RoomsRequest()),
    "join": Command("ROOM", "enter another room", lambda text: Join(_required(text))),
    "history": Command("[N]", "show recent messages", _history),
    "search": Command(
        "WORDS", "search the messages", lambda text: Search(_required(text), limit=_USUAL)
    ),
    "away": Command("[REASON]", "mark yourself as away", AwayRequest),
    "back": Command("", "mark yourself as back", lambda _: BackRequest()),
    "quit": Command("", "leave", lambda _: Quit()),
}

HELP_TEXT = "\n".join(
    [
        "Commands:",
        *(
            f"{f'/{name} {command.arguments}':<20} {command.help}"
            for name, command in COMMANDS.items()
        ),
        f"{'//TEXT':<20} send a text that begins with a slash",
    ]
)


def unknown(name: str, names: Iterable[str]) -> str:
    """The reply to the unknown command ``name``. Suggests similar ones of ``names``."""
    known, name = list(names), name[:40]
    near = [each for each in known if name and each.startswith(name)]
    # The same letters in another order; otherwise a difference of about one letter.
    near = near or [each for each in known if sorted(each) == sorted(name)]
    near = near or difflib.get_close_matches(name, known, n=1, cutoff=_NEAR)
    meant = " or ".join(f"/{each}" for each in near[:3])
    suggestion = f" Did you mean {meant}?" if near else ""
    return f"Unknown command /{name}.{suggestion} /help lists the commands."


def parse(line: str) -> Asked:
    """Parse ``line``: ``/`` begins a command, ``//`` a message that begins with a slash.

    Raises :class:`BadEvent`, whose text is for the person who typed the line.
    """
    if not line.startswith("/"):
        return Say(line)
    return parse_command(line, COMMANDS)


def parse_command(line: str, commands: Mapping[str, Command[_Request_co]]) -> Say | _Request_co:
    """Parse ``line``, which begins with ``/``, as one of ``commands``.

    Raises :class:`BadEvent` as :func:`parse` does. Its ``command`` is None if there is no
    such command, and the command's name if the arguments are wrong.
    """
    if line.startswith("//"):
        return Say(line[1:])
    word, *others = line[1:].split(None, 1) or [""]
    name, rest = word.lower(), "".join(others)
    command = commands.get(name)
    if command is None:
        raise BadEvent(unknown(name, commands))
    try:
        return command.make(rest.strip())
    except ValueError:
        raise BadEvent(f"Usage: /{name} {command.arguments}", name) from None
