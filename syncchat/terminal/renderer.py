"""Turns events into styled text. Has no side effects.

The events have passed :func:`.safe_text.sanitized`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import assert_never

from ..chat.dialects import reply
from ..chat.events import (
    MAX_HISTORY,
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
from ..chat.nicks import is_address
from ..client import Disconnected, Event, Gap, Line, Reconnected, Sent, ending
from ..closecodes import NO_CODE, NORMAL
from ..errors import ConnectionClosed
from .rooms import CATCH_UP, Note
from .safe_text import name_for_screen, text_for_screen
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
    "local_time",
    "pending_lines",
    "render",
]

CONNECTED = "Connected to the chat!"
AGAIN = "Connected to the chat again!"
COMING_BACK = "-> Reconnecting."

_ANEW = "The server has started a new log: recent messages may be missing."

_MUTED = "-> You cannot speak here meanwhile, but you can read and leave."

#: The most columns of a notification.
_LONGEST_NOTICE = 60

#: A private message, and its sender's copy of it.
_FROM, _TO = "[PM from ", "[Sent PM to "

#: The most pending messages shown above the prompt: the latest ones.
_MOST_PENDING = 3


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
            blocks = _entered(event, snapshot)
        case Line():
            blocks = [_block([("", event.text)], snapshot.preferences)]
        case Sent():
            blocks = _sent(event, snapshot)
        case Error():
            blocks = _error(event, snapshot)
        case Gap():
            cut = snapshot.anew and not event.anew
            lines = [reply(_ANEW)] if cut else lines_of(event)
            style = "class:notice" if event.anew else "class:warning"
            blocks = [local_line(line, snapshot.preferences, style) for line in lines]
        case Disconnected():
            lines = [*lines_of(event), f"{COMING_BACK} Ctrl+D leaves."]
            blocks = [local_line(line, snapshot.preferences, "class:warning") for line in lines]
        case Reconnected():
            blocks = [local_line(AGAIN, snapshot.preferences)]
        case Joined() | Left() | Renamed() | Away() | Back() | Topic() | ReadOnly():
            blocks = [
                _block([("class:notice", line)], snapshot.preferences) for line in lines_of(event)
            ]
        case Moderated():
            concerned = event.nick == snapshot.own
            style = "class:warning" if concerned else "class:notice"
            blocks = [_block([(style, line)], snapshot.preferences) for line in lines_of(event)]
            if concerned and event.action == "mute":
                blocks.append(local_line(_MUTED, snapshot.preferences, style))
        case Activity():
            blocks = _activity(event, snapshot)
        case Rooms():
            blocks = [_block([("", _rooms(event, snapshot))], snapshot.preferences)]
        case Names() | Whois() | Done() | Motd() | Bans():
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


def _entered(welcome: Welcome, snapshot: Snapshot) -> list[Block]:
    """Format the greeting at first, and the room after a change of rooms or a break."""
    preferences, note = snapshot.preferences, snapshot.note
    lines: list[Fragment] = []
    if note.has_moved:
        topic = f": {welcome.topic}" if welcome.topic else ""
        blocks = [Block([("class:rule", f"--- {welcome.room}{topic} ---")], 4)]
    elif snapshot.moved:
        blocks = [_block([("", reply(f"You are now in {welcome.room}."))], preferences)]
    else:
        lines += [("", welcome.greeting), ("", welcome.motd and reply(welcome.motd))]
        topic = f" * The topic is: {welcome.topic}" if welcome.topic else ""
        lines.append(("class:notice", topic))
        blocks = []
    if welcome.read_only:
        lines.append(("class:notice", " * Only operators may speak here."))
    blocks += [_block([line], preferences) for line in lines if line[1]]
    missed = _missed(note)
    return [*blocks, local_line(missed, preferences)] if missed else blocks


def _missed(note: Note) -> str:
    """Tell how much was said since the last visit, and how to see what is not shown."""
    if note.missed is None or (note.missed == 0 and not note.has_moved):
        return ""
    if note.missed == 0:
        return "-> No new messages."
    told = f"-> {note.missed} new message{'s' * (note.missed != 1)} since your last visit"
    if note.missed <= CATCH_UP:
        return f"{told}."
    return (
        f"{told}; the last {CATCH_UP} follow. /history {min(note.missed, MAX_HISTORY)} shows more."
    )


def _activity(event: Activity, snapshot: Snapshot) -> list[Block]:
    """Format the line that mentions the user in another room."""
    mention = event.mention
    if mention is None or mention.nick == snapshot.own or snapshot.ignores(mention.nick):
        return []
    where = ("class:mention", f"[{event.room}]")
    block = _block(
        [where, ("", " "), *_words_of(mention, snapshot)], snapshot.preferences, mention.time
    )
    text = f"{event.room}: {mention.nick}: {mention.text}"
    return [replace(block, notice=name_for_screen(shorten(text, _LONGEST_NOTICE)))]


def _rooms(event: Rooms, snapshot: Snapshot) -> str:
    """List the rooms with their people, and with what is new in those that the user follows."""
    new = {room.name: room for room in snapshot.rooms if room.unread}
    rooms = []
    for each in event.rooms:
        room = new.get(each.room)
        more = f", {room.unread} new{'!' * room.mentioned}" if room else ""
        rooms.append(f"{each.room} ({each.connected}{more})")
    return reply(f"{len(rooms)} room{'s' * (len(rooms) != 1)}: {', '.join(rooms)}")


def _message(message: Message, snapshot: Snapshot, *, from_server: bool = True) -> list[Block]:
    blocks = []
    if snapshot.heading:
        since = f", since {_when(message.time)}" if not snapshot.note.is_first_unread else ""
        since = f"--- {snapshot.heading}{since} ---"
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
    own, marked = snapshot.own, snapshot.marked
    sought = "" if own == message.nick or is_address(own) else own
    text = mark(message.text, sought, words, () if own == message.nick else marked)
    sender = (style_of(message.nick), message.nick)
    if message.kind == "redaction":
        removed = snapshot.removed
        which = f"{removed.nick}'s message of {_when(removed.time)}" if removed else "a message"
        return [("class:notice", f" * {message.nick} has removed {which}.")]
    if message.kind == "redacted":
        text = [("class:notice", "(removed)")]
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
    when = local_time(moment)
    clock = ("class:time", time.strftime("%H:%M ", when))
    return Block([clock, *fragments], 8, answers=answers, dated=when if dated else None)


def local_time(moment: float | None) -> time.struct_time:
    """Convert to local time. Returns the current time for None and for an invalid ``moment``."""
    try:
        return time.localtime(moment)
    except (OverflowError, OSError, ValueError):
        return time.localtime()


def _when(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", local_time(moment))
