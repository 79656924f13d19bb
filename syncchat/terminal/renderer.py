"""Turns events into styled text. Has no side effects.

Text from the server is sanitized here: whatever is shown has passed :func:`sanitized`.
"""

from __future__ import annotations

import re
import time
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar, assert_never

import msgspec
from prompt_toolkit.utils import get_cwidth

from ..chat.dialects import reply
from ..chat.events import (
    Ack,
    Activity,
    Away,
    Back,
    Bans,
    Done,
    Error,
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
    Topic,
    Welcome,
    Whois,
)
from ..chat.nicks import MAX_NICK, is_address
from ..chat.sanitize import clean
from ..client import Disconnected, Event, Gap, Line, Reconnected, Sent, ending
from ..closecodes import NO_CODE, NORMAL
from ..errors import ConnectionClosed
from .scrollback import Block
from .snapshot import Preferences, Snapshot
from .style import Fragment, mark, shorten, style_of

__all__ = [
    "AGAIN",
    "COMING_BACK",
    "CONNECTED",
    "date_of",
    "exit_status",
    "local_line",
    "name_for_screen",
    "pending_lines",
    "render",
    "sanitized",
    "text_for_screen",
]

CONNECTED = "Connected to the chat!"
AGAIN = "Connected to the chat again!"
COMING_BACK = "-> Reconnecting."

_ANEW = "The server has started a new log: recent messages may be missing."

#: A private message, and its sender's copy of it.
_FROM, _TO = "[PM from ", "[Sent PM to "

#: The most pending messages shown above the prompt: the latest ones.
_MOST_PENDING = 3

#: The most characters of a text. A syncchat server accepts fewer.
_LONGEST_TEXT = 65_536
#: The most characters of a name. An address may be longer than a nick.
_LONGEST_NAME = 2 * MAX_NICK

#: The most marks on one letter. Languages need four or five, and this few do not paint
#: over the lines above.
_MARKS = 8

_UNSEEN = ("Mn", "Me", "Cf")

#: Text that may have more marks than that: no ASCII character is a mark.
_SUSPECT = re.compile(rf"[^\x00-\x7f]{{{_MARKS + 1},}}")


#: The fields of events that contain names, or a text. A tuple or a list contains names.
_NAMES = frozenset({"nick", "old", "to", "room", "members", "names", "others"})
_TEXTS = frozenset({"text", "reason", "greeting", "format", "away"})
#: The fields that contain further objects.
_PARTS = frozenset({"messages", "rooms"})

_Struct = TypeVar("_Struct", bound=msgspec.Struct)


# Events.


def render(event: Event, snapshot: Snapshot, lines_of: Callable[[Event], list[str]]) -> list[Block]:
    """Return the blocks that show ``event``, which is sanitized; none if it is not for people.

    ``lines_of`` formats an event as plain lines.
    """
    blocks: list[Block]
    match event:
        case Message():
            blocks = _message(event, snapshot)
        case Ack():
            # The server does not send this message back, or has stored it before.
            answered = snapshot.answered
            blocks = [] if answered is None else _message(answered, snapshot, from_server=False)
        case PrivateMessage():
            blocks = _private(event, snapshot)
        case History():
            blocks = _history(event, snapshot)
        case Welcome():
            # Show the greeting once. After a change of rooms or a reconnect, show the room instead.
            text = reply(f"You are now in {event.room}.") if snapshot.moved else event.greeting
            blocks = [_block([("", text)], snapshot.preferences)] if text else []
        case Line():
            blocks = [_block([("", event.text)], snapshot.preferences)]
        case Sent():
            blocks = _sent(event, snapshot)
        case Error():
            blocks = _error(event, snapshot)
        case Gap():
            lines = [reply(_ANEW)] if snapshot.anew else lines_of(event)
            blocks = [local_line(line, snapshot.preferences, "class:warning") for line in lines]
        case Disconnected():
            lines = [*lines_of(event), f"{COMING_BACK} Ctrl+D leaves."]
            blocks = [local_line(line, snapshot.preferences, "class:warning") for line in lines]
        case Reconnected():
            blocks = [local_line(AGAIN, snapshot.preferences)]
        case Joined() | Left() | Renamed() | Away() | Back():
            blocks = [
                _block([("class:notice", line)], snapshot.preferences) for line in lines_of(event)
            ]
        case Activity():
            blocks = []
        case (
            Names()
            | Rooms()
            | Whois()
            | Done()
            | Moderated()
            | Topic()
            | Motd()
            | ReadOnly()
            | Bans()
        ):
            blocks = [_block([("", line)], snapshot.preferences) for line in lines_of(event)]
        case _:
            assert_never(event)
    return blocks


def local_line(text: str, preferences: Preferences, style: str = "") -> Block:
    """Format a line of the client itself."""
    return _block([(style, text_for_screen(text))], preferences, from_server=False, dated=False)


def date_of(when: time.struct_time) -> Block:
    """Return the line that is shown when the date changes."""
    return Block([("class:time", time.strftime("--- %A, %Y-%m-%d ---", when))])


def pending_lines(pending: Sequence[Message], columns: int) -> list[Fragment]:
    """Format the pending messages for the rows above the prompt."""
    lines = []
    if len(pending) > _MOST_PENDING:
        lines.append(f"… {len(pending) - _MOST_PENDING} more")
    for message in pending[-_MOST_PENDING:]:
        act = "/me " if message.kind == "action" else ""
        text = " ".join(message.text[: 4 * columns].split())
        lines.append(shorten(f"… {act}{text}", columns))
    return [("class:pending", "\n".join(lines))] if lines else []


def exit_status(closed: ConnectionClosed) -> tuple[str, int]:
    """Return a line for the user, and the exit code: 0 only if the server closed in order.

    The line is safe for a terminal, whatever reason the server gave.
    """
    line = text_for_screen(ending(closed.code, closed.reason))
    return line, 0 if closed.code in (NORMAL, NO_CODE) else 1


def _message(message: Message, snapshot: Snapshot, *, from_server: bool = True) -> list[Block]:
    blocks = []
    if snapshot.heading:
        since = f"--- {snapshot.heading}, since {_when(message.time)} ---"
        blocks.append(Block([("class:notice", since)], 4))
    own = message.nick == snapshot.own
    if own or not snapshot.ignores(message.nick):
        blocks.append(
            _block(
                _words_of(message, snapshot),
                snapshot.preferences,
                message.time,
                answers=message.nonce,
                from_server=from_server,
            )
        )
    return blocks


def _words_of(message: Message, snapshot: Snapshot, words: Sequence[str] = ()) -> list[Fragment]:
    """Format a message or an action. Highlights ``words``, and the user's nick if others say it."""
    own = snapshot.own
    sought = "" if own == message.nick or is_address(own) else own
    text = mark(message.text, sought, words)
    sender = (style_of(message.nick), message.nick)
    if message.kind == "action":
        return [("", "** "), sender, ("", " "), *text]
    shown: list[Fragment] = []
    for literal, field in snapshot.form.parts:
        shown.append(("", literal))
        if field == "sender":
            shown.append(sender)
        elif field == "text":
            shown += text
    return shown


def _private(event: PrivateMessage, snapshot: Snapshot) -> list[Block]:
    if snapshot.ignores(event.nick):
        return []
    own = event.nick == snapshot.own
    other = event.to if own else event.nick
    fragments = [
        ("class:private", _TO if own else _FROM),
        (style_of(other), other),
        ("class:private", "] "),
        ("", event.text),
    ]
    if own:
        fragments.insert(0, ("", "-> "))
    return [_block(fragments, snapshot.preferences, event.time)]


def _history(history: History, snapshot: Snapshot) -> list[Block]:
    """Format the answer to a request. Unrequested history arrives as messages instead."""
    found = [each for each in history.messages if not snapshot.ignores(each.nick)]
    if not found:
        return [_block([("", reply("No messages found."))], snapshot.preferences)]
    # The messages show their date and time, so the blocks need no other.
    return [
        Block(
            [
                ("", "-> "),
                ("class:time", f"[{_when(message.time)}] "),
                *_words_of(message, snapshot, snapshot.words),
            ],
            4,
        )
        for message in found
    ]


def _error(event: Error, snapshot: Snapshot) -> list[Block]:
    # The block indents its continuation lines.
    lines: list[Fragment] = [("class:warning", f"-> {event.text}")]
    if snapshot.answered is not None:
        lines += [("", "\n"), *_words_of(snapshot.answered, snapshot)]
    return [_block(lines, snapshot.preferences, answers=event.nonce)]


def _sent(event: Sent, snapshot: Snapshot) -> list[Block]:
    # Typed before the dialect was known: show it like any line to such a server.
    message = snapshot.answered
    if message is None:
        return []
    typed = f"/me {message.text}" if message.kind == "action" else message.text
    shown = [("class:notice", f"> {text_for_screen(typed)}")]
    return [
        _block(shown, snapshot.preferences, answers=event.nonce, from_server=False, dated=False)
    ]


# Blocks.


def _block(
    fragments: Sequence[Fragment],
    preferences: Preferences,
    moment: float | None = None,
    *,
    answers: str | None = None,
    from_server: bool = True,
    dated: bool = True,
) -> Block:
    """Make the block of a text that was sent at ``moment``, by default now.

    Text from the server begins with the user's prefix. If the user wants times, the
    time is in front, and, unless ``dated`` is False, a new date is shown before it.
    """
    if from_server:
        fragments = [("", preferences.prefix), *fragments]
    if not preferences.timestamps:
        return Block(fragments, 4, answers=answers)
    when = _local_time(moment)
    clock = ("class:time", time.strftime("%H:%M ", when))
    return Block([clock, *fragments], 8, answers=answers, dated=when if dated else None)


def _local_time(moment: float | None) -> time.struct_time:
    """Convert to local time. Returns the current time for None and for an invalid ``moment``."""
    try:
        return time.localtime(moment)
    except (OverflowError, OSError, ValueError):
        return time.localtime()


def _when(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", _local_time(moment))


# Sanitizing.


def sanitized(event: Event) -> Event:
    """Return ``event`` without anything that is unsafe to show."""
    if isinstance(event, msgspec.Struct):
        return _tame(event)
    if isinstance(event, Line):
        return Line(text_for_screen(event.text))
    if isinstance(event, Disconnected):
        return replace(event, reason=name_for_screen(event.reason))
    return event


def text_for_screen(text: str) -> str:
    """Return ``text`` without unsafe characters; newlines stay.

    Removes what controls a terminal, is invisible, or paints over other lines.
    """
    beyond = len(text) - _LONGEST_TEXT
    if beyond > 0:
        text = f"{text[:_LONGEST_TEXT]}… ({beyond} more characters)"
    text = clean(text)
    return _SUSPECT.sub(_limit_marks, text) if not text.isascii() else text


def name_for_screen(name: str) -> str:
    """Sanitize a name, or any other text that must be one short line."""
    if len(name) <= _LONGEST_NAME and name.isascii() and name.isprintable():
        # Nothing to do, as for most names.
        return name
    short = name if len(name) <= _LONGEST_NAME else name[:_LONGEST_NAME] + "…"
    return text_for_screen(short).replace("\n", " ").replace("\t", " ")


def _tame(struct: _Struct) -> _Struct:
    changes: dict[str, Any] = {}
    for field in struct.__struct_fields__:
        value = getattr(struct, field)
        tame: Any
        if not value:
            continue
        if field in _PARTS:
            tame = tuple(map(_tame, value))
        elif field not in _NAMES and field not in _TEXTS:
            continue
        elif not isinstance(value, str):
            tame = type(value)(map(name_for_screen, value))
        elif len(value) <= _LONGEST_NAME and value.isascii() and value.isprintable():
            # Nothing to do, as for most names and texts.
            continue
        else:
            tame = text_for_screen(value) if field in _TEXTS else name_for_screen(value)
        if tame != value:
            changes[field] = tame
    return msgspec.structs.replace(struct, **changes) if changes else struct


def _limit_marks(found: re.Match[str]) -> str:
    kept = []
    marks = 0
    for char in found[0]:
        # A character without a column is drawn on top of the one before it.
        seen = get_cwidth(char) and unicodedata.category(char) not in _UNSEEN
        marks = 0 if seen else marks + 1
        if marks <= _MARKS:
            kept.append(char)
    return "".join(kept)
