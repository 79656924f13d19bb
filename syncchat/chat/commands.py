"""What a line means that a person types: something to say, or a command.

The commands are ssh-chat's where it has them. They come to the same requests
as the JSON dialect's events; the few that it does not have are declared here.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .events import (
    Action,
    AwayRequest,
    BackRequest,
    BadEvent,
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

__all__ = ["COMMANDS", "HELP_TEXT", "Asked", "Command", "Help", "Quit", "Reply", "parse", "unknown"]


@dataclass(frozen=True, slots=True)
class Help:
    """Which commands are there?"""


@dataclass(frozen=True, slots=True)
class Quit:
    """Leave."""


@dataclass(frozen=True, slots=True)
class Reply:
    """Say something to whoever said something in private last."""

    text: str


#: What a line can mean.
Asked = FromClient | Help | Quit | Reply

#: Messages that an answer holds unless asked otherwise, and at most.
_USUAL, _MOST = 20, 1000


#: How alike a name and a command are that is suggested for it (difflib's ratio):
#: ``/nik`` and ``/nick``, but not ``/query`` and ``/quit``.
_NEAR = 0.7


@dataclass(frozen=True, slots=True)
class Command:
    """What can be typed behind a slash."""

    #: What is written behind the name.
    arguments: str
    #: What it does, in a few words.
    help: str
    #: What is asked for, from the text behind the name; raises ValueError, or
    #: BadEvent where there is more to tell than the arguments.
    make: Callable[[str], Asked]


def _required(text: str) -> str:
    if not text:
        raise ValueError
    return text


def _private(text: str) -> Private:
    to, *words = text.split(None, 1)
    return Private(_name(to), _required("".join(words)))


def _name(text: str) -> str:
    """The name in ``text``, which may be written as one addresses people."""
    return _required(text.removeprefix("@").rstrip(":,"))


def _history(text: str) -> HistoryRequest:
    if not text:
        return HistoryRequest(limit=_USUAL)
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= _MOST:
        raise BadEvent(f"Write it as /history [N], where N is 1-{_MOST:,}", "history")
    return HistoryRequest(limit=int(text))


#: By their names.
COMMANDS: dict[str, Command] = {
    "help": Command("", "this list", lambda _: Help()),
    "nick": Command("NAME", "take another name", lambda text: Nick(_required(text))),
    "me": Command("TEXT", "do something", lambda text: Action(_required(text))),
    "msg": Command("NAME TEXT", "say something to one person", _private),
    "reply": Command("TEXT", "answer the last of these", lambda text: Reply(_required(text))),
    "names": Command("", "who is here", lambda _: NamesRequest()),
    "whois": Command("NAME", "who that is", lambda text: WhoisRequest(_name(text))),
    "rooms": Command("", "which rooms there are", lambda _: RoomsRequest()),
    "join": Command("ROOM", "go to another room", lambda text: Join(_required(text))),
    "history": Command("[N]", "what was said last", _history),
    "search": Command(
        "WORDS", "what was said of it", lambda text: Search(_required(text), limit=_USUAL)
    ),
    "away": Command("[REASON]", "be away", AwayRequest),
    "back": Command("", "be back", lambda _: BackRequest()),
    "quit": Command("", "leave", lambda _: Quit()),
}

HELP_TEXT = "\n".join(
    [
        "Commands:",
        *(
            f"{f'/{name} {command.arguments}':<20} {command.help}"
            for name, command in COMMANDS.items()
        ),
        f"{'//TEXT':<20} say a text that begins with a slash",
    ]
)


def unknown(name: str, names: Iterable[str]) -> str:
    """The reply to a command that is not among ``names``. Suggests only near misses."""
    known, name = list(names), name[:40]
    near = [each for each in known if name and each.startswith(name)]
    # The same letters in another order, then what differs by about one letter.
    near = near or [each for each in known if sorted(each) == sorted(name)]
    near = near or difflib.get_close_matches(name, known, n=1, cutoff=_NEAR)
    meant = " or ".join(f"/{each}" for each in near[:3])
    suggestion = f" Did you mean {meant}?" if near else ""
    return f"There is no command /{name}.{suggestion} /help lists the commands."


def parse(line: str) -> Asked:
    """What ``line`` means; a line that begins with ``/`` is a command, ``//`` says a slash.

    Raises :class:`BadEvent`, whose text is for who typed it.
    """
    if not line.startswith("/"):
        return Say(line)
    if line.startswith("//"):
        return Say(line[1:])
    word, *others = line[1:].split(None, 1) or [""]
    name, rest = word.lower(), "".join(others)
    command = COMMANDS.get(name)
    if command is None:
        raise BadEvent(unknown(name, COMMANDS))
    try:
        return command.make(rest.strip())
    except ValueError:
        raise BadEvent(f"Write it as /{name} {command.arguments}", name) from None
