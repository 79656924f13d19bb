"""The two dialects between server and client: plain lines, and JSON events.

The terminal client and the pipe show events in the lines of the plain dialect, too.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from string import Formatter
from typing import assert_never

from ..net import encode_frame
from .commands import Asked, parse
from .events import (
    SUBPROTOCOL,
    Ack,
    Activity,
    Away,
    Back,
    BanEntry,
    Bans,
    Done,
    Error,
    FromServer,
    History,
    Joined,
    Left,
    Message,
    Moderated,
    Motd,
    Names,
    PrivateMessage,
    ReadOnly,
    Renamed,
    Rooms,
    Say,
    Topic,
    Welcome,
    Whois,
    decode_from_client,
    encode_utf8,
)
from .sanitize import clean, indent, without_line_end

__all__ = ["Dialect", "LineFormat", "dialects", "duration", "lines_of", "reply"]

#: Shown before a history that is not complete.
_GAP = "Some messages are missing here: they are no longer kept."

#: Characters of a format, at most.
_LONGEST_FORMAT = 200

#: Seconds after which a private message counts as one that was kept.
_LATE = 60.0

#: Nicks that a notice lists if many members join or leave; it counts the others.
_SPELLED_OUT = 10


class Dialect(ABC):
    """Decodes a client's messages and encodes events for it. From any thread."""

    #: Whether a welcome lists the members.
    lists_members = True
    #: Whether clients know their position in the log, and come back to it.
    has_positions = True
    #: Whether a join has only the room's name, so that ``history`` is taken from the URL.
    joins_by_name = False
    #: Whether a follower gets its welcome after its history.
    welcome_last = False

    @abstractmethod
    def decode(self, message: str | bytes) -> Asked | None:
        """Decode a client's message; None: it asks for nothing. Raises :class:`BadEvent`.

        Texts in the result are as received, not sanitized.
        """

    @abstractmethod
    def encode(self, event: FromServer, nick: str) -> list[bytes]:
        """The event as frames for the client with the nick ``nick``."""

    def encode_all(self, events: Iterable[FromServer], nick: str) -> list[bytes]:
        """Several events as frames."""
        frames: list[bytes] = []
        for event in events:
            frames += self.encode(event, nick)
        return frames

    def at(self, epoch: str) -> Dialect:  # noqa: ARG002 - for EventStream
        """The dialect for a log of this epoch: itself, unless its events have the epoch."""
        return self

    def moved(self, room: str) -> str:  # noqa: ARG002 - for PlainDialect
        """The greeting of a client that comes from another room; empty for none."""
        return ""


def dialects(form: LineFormat) -> dict[str | None, Dialect]:
    """The dialects, by the subprotocol that a client and the server have agreed to."""
    return {None: PlainDialect(form), SUBPROTOCOL: JsonDialect()}


class PlainDialect(Dialect):
    """Lines of text, which any WebSocket client can send and show."""

    lists_members = False
    has_positions = False
    joins_by_name = True

    def __init__(self, form: LineFormat) -> None:
        self._form = form

    def decode(self, message: str | bytes) -> Asked | None:
        """Parse the line. Ignores binary and empty messages."""
        if not isinstance(message, str):
            return None
        text = without_line_end(message)
        line = clean(text)
        if line.startswith("/"):
            return parse(line)
        # Not sanitized: the event log shows the text as received.
        return Say(text) if line else None

    def encode(self, event: FromServer, nick: str) -> list[bytes]:
        """The event's lines, a frame for each."""
        return [encode_frame(line.encode()) for line in lines_of(event, self._form, nick)]

    def moved(self, room: str) -> str:
        """A line that names the room, since the line of a welcome is only its greeting."""
        return reply(f"You are now in {room}.")


class JsonDialect(Dialect):
    """The JSON dialect, ``syncchat.v1``."""

    decode = staticmethod(decode_from_client)

    def encode(self, event: FromServer, nick: str) -> list[bytes]:  # noqa: ARG002 - for PlainDialect
        """The event as one frame, the same for every client."""
        return [encode_frame(encode_utf8(event))]


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
        if message.kind == "redaction":
            return f" * {message.nick} has removed a message."
        if message.kind == "redacted":
            return self.line(message.nick, "(removed)")
        return self.line(message.nick, message.text)


def _bad_format(template: str) -> ValueError:
    return ValueError(
        f"{template!r} is not a format: it must contain {{text}} once, and may contain {{sender}}"
        f" once; it has at most {_LONGEST_FORMAT} characters, and a literal brace is written twice"
    )


def reply(text: str) -> str:
    """``text`` as a line from the system to one client."""
    return "-> " + indent(text)


# Events as lines.


def lines_of(event: FromServer, form: LineFormat, own_nick: str) -> list[str]:
    """The event as lines, none if it is not for people; ``own_nick`` is the reader's nick."""
    match event:
        case Message():
            return [form.message(event)]
        case History():
            return _past(event, form)
        case PrivateMessage() if event.nick == own_nick:
            line = reply(f"[Sent PM to {event.to}] {event.text}")
        case PrivateMessage():
            # One that was kept says when it was sent.
            is_late = time.time() - event.time > _LATE
            when = f", {_when(event.time)}" if is_late else ""
            line = f"[PM from {event.nick}{when}] {indent(event.text)}"
        case Welcome():
            return _welcome(event)
        case Joined():
            names = _names(event.nick, event.others)
            line = f" * {names} joined. (Connected: {event.connected})"
        case Left():
            names = _names(event.nick, event.others)
            reason = _reason(event.reason or "").removesuffix(".")
            line = indent(f" * {names} left{reason}. (Connected: {event.connected})")
        case Renamed():
            line = f" * {event.old} is now known as {event.nick}."
        case Away():
            line = indent(f" * {event.nick} is away{_reason(event.reason)}")
        case Back():
            line = f" * {event.nick} is back."
        case Names():
            line = _connected(event)
        case Error():
            line = reply(event.text)
        case Rooms():
            line = _rooms(event)
        case Whois():
            line = _who(event)
        case Done() | Topic() | Motd() | ReadOnly() | Moderated() | Bans():
            line = _decided(event)
        case Ack() | Activity():
            line = ""
        case _:
            assert_never(event)
    return [line] if line else []


def _welcome(event: Welcome) -> list[str]:
    lines = [event.greeting] if event.greeting else []
    if event.motd:
        lines.append(reply(event.motd))
    if event.topic:
        lines.append(indent(f" * The topic is: {event.topic}"))
    if event.read_only:
        lines.append(reply(f"{event.room} is read-only: you cannot speak here."))
    return lines


def _decided(event: Done | Topic | Motd | ReadOnly | Moderated | Bans) -> str:
    """What an operator has done, as a line."""
    match event:
        case Done():
            return reply(event.text)
        case Topic():
            said = f"The topic is: {event.text}" if event.text else "There is no topic."
            return indent(f" * {said}")
        case Motd():
            return reply(event.text or "There is no message of the day.")
        case ReadOnly():
            only = "only operators may speak" if event.on else "everybody may speak again"
            return f" * {event.by} has decided that {only} here."
        case Moderated():
            return _moderated(event)
        case Bans():
            return reply("\n".join(map(_ban, event.bans)) or "There are no bans.")
        case _:
            assert_never(event)


_DONE = {
    "kick": "removed",
    "ban": "banned",
    "mute": "muted",
    "unmute": "unmuted",
    "op": "made an operator",
    "deop": "made an ordinary member",
}


def _moderated(event: Moderated) -> str:
    reason = f": {event.reason}" if event.reason else ""
    lasts = "" if event.seconds is None else f" for {duration(event.seconds)}"
    return indent(f" * {event.nick} was {_DONE[event.action]} by {event.by}{lasts}{reason}")


def _ban(ban: BanEntry) -> str:
    until = "" if ban.until is None else f" until {_when(ban.until)}"
    where = "" if ban.room is None else f" in {ban.room}"
    return f"{ban.target}{where}{until}, by {ban.by}{_reason(ban.reason)}"


def _coarse(seconds: float) -> float:
    """``seconds`` in whole minutes, hours or days, once they are that many."""
    size = next((size for size in (86400, 3600, 60) if seconds >= size), 1)
    return seconds // size * size


def duration(seconds: float) -> str:
    """A time as people write it: ``90s``, ``5m``, ``2h``, ``3d``."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{int(seconds // size)}{unit}"
    return f"{int(seconds)}s"


def _past(event: History, form: LineFormat) -> list[str]:
    if event.command is None:
        # The history for a client that enters looks like live messages.
        messages = [form.message(message) for message in event.messages]
        return messages if event.complete else [reply(_GAP), *messages]
    if not event.messages:
        return [reply("No messages found.")]
    # form.message() has indented the continuation lines.
    return [f"-> [{_when(message.time)}] {form.message(message)}" for message in event.messages]


def _rooms(event: Rooms) -> str:
    rooms = ", ".join(f"{each.room} ({each.connected})" for each in event.rooms)
    return reply(f"{len(event.rooms)} room{'s' * (len(event.rooms) != 1)}: {rooms}")


def _connected(event: Names) -> str:
    away = frozenset(event.away)
    names = [f"{name} (away)" if name in away else name for name in event.names]
    return reply(f"{len(names)} connected: {', '.join(names)}")


def _who(event: Whois) -> str:
    spoke = "has not spoken yet" if event.spoke is None else f"last spoke {_when(event.spoke)}"
    last = event.since if event.spoke is None else event.spoke
    idle = duration(_coarse(max(0.0, time.time() - last)))
    lines = [
        f"{event.nick} has been here since {_when(event.since)} and {spoke}.",
        f"Idle for {idle}.",
    ]
    if event.rooms:
        lines.append(f"In {', '.join(event.rooms)}.")
    if event.person:
        lines.append("The name is reserved.")
    if event.operator:
        lines.append("Operator.")
    if event.away is not None:
        lines.append(f"Away{_reason(event.away)}")
    return reply(" ".join(lines))


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
        return "an unknown time"
