"""Parses a line that a person types: a message, or a command.

The commands have the names that ssh-chat gives them, as far as it has them. Most commands
become an event of the JSON dialect; the few requests that the dialect lacks are declared here.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from ..errors import BadEvent
from .events import (
    Action,
    AwayRequest,
    BackRequest,
    Ban,
    BansRequest,
    Deop,
    FromClient,
    FromOperator,
    HistoryRequest,
    Join,
    KickRequest,
    MotdRequest,
    Mute,
    NamesRequest,
    Nick,
    Op,
    Private,
    ReadOnlyRequest,
    Redact,
    RoomsRequest,
    Say,
    Search,
    Seen,
    TopicRequest,
    Unban,
    Unmute,
    Unwatch,
    Watch,
    WhoisRequest,
)

__all__ = [
    "ALIASES",
    "COMMANDS",
    "HELP_TEXT",
    "Asked",
    "Command",
    "Help",
    "Quit",
    "Reply",
    "Request",
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
    """Leave the chat. The others are told ``reason``, if there is one."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """Send a private message to the sender of the last private message."""

    text: str


#: What a client can ask for.
Asked = FromClient | Help | Quit | Reply

#: What a client asks for that neither says something nor leaves.
Request = (
    Private
    | Nick
    | Join
    | NamesRequest
    | HistoryRequest
    | Search
    | RoomsRequest
    | WhoisRequest
    | AwayRequest
    | BackRequest
    | Help
    | Reply
    | Watch
    | Unwatch
    | Seen
    | FromOperator
)

#: Messages of an answer: by default, and at most.
_USUAL, _MOST = 20, 1000


#: The least similarity (difflib's ratio) of a mistyped name to a command that is suggested:
#: ``/nik`` suggests ``/nick``, but ``/query`` does not suggest ``/quit``.
_NEAR = 0.7


#: A time: a number and its unit. The longest is that of an event's ``seconds``.
_TIME = re.compile(r"([0-9]{1,9})([smhd])", re.ASCII | re.IGNORECASE)
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST = 10 * 365 * 86400

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


def _kick(text: str) -> KickRequest:
    name, _, reason = text.partition(" ")
    return KickRequest(_name(name), reason.strip())


def _ban(text: str) -> Ban:
    target, *others = text.split(None, 2)
    seconds = _seconds(others[0]) if others else None
    reason = " ".join(others if seconds is None else others[1:])
    # Only a nick is written as an address to a person.
    target = target if ":" in target.rstrip(":,") else _name(target)
    return Ban(target, seconds, reason)


def _mute(text: str) -> Mute:
    name, *others = text.split()
    if not others:
        return Mute(_name(name))
    seconds = _seconds(others[0])
    if seconds is None or len(others) > 1:
        raise ValueError
    return Mute(_name(name), seconds)


def _seconds(word: str) -> float | None:
    """The seconds of a TIME; None: ``word`` is none."""
    found = _TIME.fullmatch(word)
    if found is None:
        return None
    seconds = int(found[1]) * _UNITS[found[2].lower()]
    if not 0 < seconds <= _LONGEST:
        raise BadEvent(f"{word} is not a possible time: it must be 1s to 3650d.")
    return seconds


def _one(text: str) -> str:
    """The nick in ``text``, which must be one word."""
    (word,) = text.split()
    return _name(word)


def _text(text: str) -> str | None:
    """A text to set; None: none is given; empty, for ``-``: it is to be removed."""
    return None if not text else "" if text == "-" else text


def _redact(text: str) -> Redact:
    nick = _one(text)
    is_number = nick.isascii() and nick.isdigit() and len(nick) <= 15
    return Redact(int(nick)) if is_number else Redact(nick=nick)


def _read_only(text: str) -> ReadOnlyRequest:
    return ReadOnlyRequest(on=("off", "on").index(text.lower()) == 1)


#: The commands of operators by name.
_FOR_OPERATORS: dict[str, Command[FromOperator]] = {
    "topic": Command(
        "[TEXT]", "show or set the topic; - removes it", lambda t: TopicRequest(_text(t))
    ),
    "motd": Command(
        "[TEXT]",
        "show or set the message of the day; - removes it",
        lambda t: MotdRequest(_text(t)),
    ),
    "kick": Command("NAME [REASON]", "remove a person from this room", _kick),
    "ban": Command(
        "NAME|ADDRESS[/PREFIX] [TIME] [REASON]",
        "keep somebody out, for 90s, 10m, 2h, 3d or ever",
        _ban,
    ),
    "unban": Command("NAME|ADDRESS[/PREFIX]", "lift a ban", lambda text: Unban(_required(text))),
    "bans": Command("", "list the bans", lambda _: BansRequest()),
    "mute": Command("NAME [TIME]", "let a person read but not speak", _mute),
    "unmute": Command("NAME", "let a person speak again", lambda text: Unmute(_one(text))),
    "redact": Command("NAME|NUMBER", "hide a person's last message, or one by number", _redact),
    "read-only": Command("on|off", "let only operators speak", _read_only),
    "op": Command("NAME", "make a person an operator of this room", lambda text: Op(_one(text))),
    "deop": Command("NAME", "undo /op", lambda text: Deop(_one(text))),
}

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
    "part": Command("", "leave this room for the lobby", lambda _: Join("lobby")),
    "quit": Command("[REASON]", "leave", Quit),
    **_FOR_OPERATORS,
}

#: Other names of commands, from habit. They are not listed.
ALIASES = {"exit": "quit", "j": "join", "q": "quit", "w": "names"}


def _usage(name: str) -> str:
    command = COMMANDS[name]
    return f"{f'/{name} {command.arguments}':<20} {command.help}"


HELP_TEXT = "\n".join(
    [
        "Commands:",
        *(_usage(name) for name in COMMANDS if name not in _FOR_OPERATORS),
        f"{'//TEXT':<20} send a text that begins with a slash",
        "For operators:",
        *map(_usage, _FOR_OPERATORS),
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
    name = name if name in commands else ALIASES.get(name, name)
    command = commands.get(name)
    if command is None:
        raise BadEvent(unknown(name, commands))
    try:
        return command.make(rest.strip())
    except ValueError:
        raise BadEvent(f"Usage: /{name} {command.arguments}", name) from None
