"""Events as lines for people, in the plain dialect and in the terminal client."""

from __future__ import annotations

import time
from collections.abc import Callable
from string import Formatter
from typing import Any

from .events import (
    Ack,
    Away,
    Back,
    Error,
    FromServer,
    History,
    Joined,
    Left,
    Message,
    Names,
    PrivateMessage,
    Renamed,
    Rooms,
    Welcome,
    Whois,
)
from .sanitize import indent

__all__ = ["LineFormat", "lines_of", "reply"]

#: Shown before a history that is not complete.
_GAP = "Some messages are missing here: they are no longer kept."

#: Characters of a format, at most.
_LONGEST_FORMAT = 200

#: Nicks that a notice lists if many members join or leave; it counts the others.
_SPELLED_OUT = 10


class LineFormat:
    """The format of a message as a line, such as ``{sender}: {text}``; the operator sets it.

    Raises :class:`ValueError`, whose text says what is wrong, unless the template
    contains ``{text}`` once, ``{sender}`` at most once, and no other field.
    """

    def __init__(self, template: str) -> None:
        if len(template) > _LONGEST_FORMAT:
            raise _bad_format(template[:_LONGEST_FORMAT])
        try:
            fields = [field[1:] for field in Formatter().parse(template) if field[1] is not None]
        except ValueError as exc:
            raise _bad_format(template) from exc
        # Check before the first use: a client gets its template from a server that may be
        # hostile, and a field can ask for a width that exhausts memory.
        names = sorted(str(name) for name, _, _ in fields)
        if names not in (["text"], ["sender", "text"]) or any(
            spec or conversion for _, spec, conversion in fields
        ):
            raise _bad_format(template)
        #: The template's parts: literal text, and the name of the field behind it, if any.
        self.parts = tuple((literal, name) for literal, name, _, _ in Formatter().parse(template))
        named = "sender" in names
        #: The template as given.
        self.template = template
        self._format = template.format
        #: Whether lines show the sender. If not, a continuation line cannot fake one, and
        #: the text is not indented.
        self._named = named

    def line(self, sender: str, text: str) -> str:
        """The line for ``text``, which must be sanitized."""
        return self._format(sender=sender, text=indent(text) if self._named else text)

    def message(self, message: Message) -> str:
        """The line for a message or an action."""
        if message.kind == "action":
            return f"** {message.nick} {indent(message.text)}"
        return self.line(message.nick, message.text)


def _bad_format(template: str) -> ValueError:
    return ValueError(
        f"{template!r} is no format: it must hold {{text}} and may hold {{sender}}, once each"
        f" in at most {_LONGEST_FORMAT} characters, and a brace is written twice"
    )


def reply(text: str) -> str:
    """``text`` as a line from the system to one client."""
    return "-> " + indent(text)


def lines_of(event: FromServer, form: LineFormat, own_nick: str) -> list[str]:
    """The event as lines, none if it is not for people; ``own_nick`` is the reader's nick."""
    if isinstance(event, Message):
        return [form.message(event)]
    if isinstance(event, History):
        return _past(event, form)
    if isinstance(event, PrivateMessage):
        return [_private(event, own_nick)]
    line = _LINES[type(event)](event)
    return [line] if line else []


def _private(event: PrivateMessage, own_nick: str) -> str:
    if event.nick == own_nick:
        return reply(f"[Sent PM to {event.to}] {event.text}")
    return f"[PM from {event.nick}] {indent(event.text)}"


def _past(event: History, form: LineFormat) -> list[str]:
    if event.command is None:
        # The history for a client that enters looks like live messages.
        past = [form.message(message) for message in event.messages]
        return past if event.complete else [reply(_GAP), *past]
    if not event.messages:
        return [reply("Nothing was found.")]
    # form.message() has indented the continuation lines.
    return [f"-> [{_when(message.time)}] {form.message(message)}" for message in event.messages]


def _came(event: Joined) -> str:
    return f" * {_names(event.nick, event.others)} joined. (Connected: {event.connected})"


def _went(event: Left) -> str:
    return f" * {_names(event.nick, event.others)} left. (Connected: {event.connected})"


def _rooms(event: Rooms) -> str:
    rooms = ", ".join(f"{each.room} ({each.connected})" for each in event.rooms)
    return reply(f"{len(event.rooms)} room{'s' * (len(event.rooms) != 1)}: {rooms}")


def _connected(event: Names) -> str:
    away = frozenset(event.away)
    names = [f"{name} (away)" if name in away else name for name in event.names]
    return reply(f"{len(names)} connected: {', '.join(names)}")


def _who(event: Whois) -> str:
    spoke = "has not spoken yet" if event.spoke is None else f"spoke last {_when(event.spoke)}"
    away = "" if event.away is None else f" Away{_reason(event.away)}"
    return reply(f"{event.nick} is here since {_when(event.since)}, {spoke}.{away}")


def _reason(reason: str) -> str:
    return f": {reason}" if reason else "."


def _names(first: str, others: tuple[str, ...]) -> str:
    names = [first, *others]
    if len(names) > _SPELLED_OUT:
        return f"{', '.join(names[:_SPELLED_OUT])} and {len(names) - _SPELLED_OUT} others"
    return " and ".join([", ".join(names[:-1]), names[-1]] if others else names)


def _when(moment: float) -> str:
    """``moment``, in seconds since 1970, as text in this machine's time zone."""
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(moment))
    except (OverflowError, OSError, ValueError):
        return "at no time"


#: For each type of event: a function that returns its line, empty if it is not for people.
_LINES: dict[type, Callable[[Any], str]] = {
    Welcome: lambda event: event.greeting,
    Joined: _came,
    Left: _went,
    Renamed: lambda event: f" * {event.old} is now known as {event.nick}.",
    Away: lambda event: indent(f" * {event.nick} is away{_reason(event.reason)}"),
    Back: lambda event: f" * {event.nick} is back.",
    Names: _connected,
    Error: lambda event: reply(event.text),
    Rooms: _rooms,
    Whois: _who,
    Ack: lambda _event: "",
}
