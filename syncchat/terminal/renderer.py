"""Turns events into styled text: colored nicks, times, and highlights."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from ..chat.dialects import LineFormat, reply
from ..chat.events import (
    Ack,
    Away,
    Back,
    Error,
    History,
    Joined,
    Left,
    Message,
    PrivateMessage,
    Renamed,
    Welcome,
)
from ..chat.nicks import is_address
from ..client import Client, Disconnected, Event, Gap, Line, Reconnected, Sent
from .exit_status import AGAIN, COMING_BACK
from .mentions import mark, mentions
from .pending import Pending
from .people import People
from .preferences import Preferences
from .sanitize import name_for_screen, text_for_screen
from .scrollback import Block
from .style import style_of
from .wrapping import Fragment

__all__ = ["Renderer"]

_ANEW = "The server has begun anew: what was said just before is not kept."

#: A private message, and its sender's copy of it.
_FROM, _TO = "[PM from ", "[Sent PM to "


class Renderer:
    """Formats events for the screen. Only for the thread that receives, except where noted.

    Every event must be sanitized before.
    """

    def __init__(
        self,
        client: Client,
        people: People,
        preferences: Preferences,
        pending: Pending,
    ) -> None:
        self._client = client
        self._people = people
        self._preferences = preferences
        self._pending = pending
        self._form = LineFormat("{sender}: {text}")
        #: The words of the unanswered searches. The main thread appends to it.
        self._searches: deque[str] = deque()
        #: The sender of the last private message that was shown.
        self.whispered: str | None = None
        #: The last date shown: the first three members of a struct_time.
        self._day: tuple[int, ...] = time.localtime()[:3]
        #: Whether a welcome has arrived; the last offset before that welcome; and the
        #: heading for the messages up to that offset, while it is not printed yet.
        self._entered = False
        self._past_end = 0
        self._announce = ""
        #: The log's epoch in the last welcome, and whether it changed during the last break.
        self._epoch = ""
        self._anew = False
        #: Whether the connection broke and no welcome has arrived since.
        self._returning = False

    def paint(self, event: Event) -> Iterator[Block]:
        """Return the blocks that show ``event``; none if the event is not for people."""
        return _PAINTERS.get(type(event), Renderer._other)(self, event)

    def searching(self, words: str, ask: Callable[[], object]) -> None:
        """Call ``ask`` to search for ``words``, and highlight them in the answer.

        Any thread may call this.
        """
        self._searches.append(words)
        try:
            ask()
        except BaseException:
            # A break may have removed them already, because it ends all searches.
            with contextlib.suppress(ValueError):
                self._searches.remove(words)
            raise

    def local(self, text: str, style: str = "") -> Block:
        """Format a line of the client itself. Any thread may call this."""
        return self._timed([(style, text_for_screen(text))], time.localtime())

    def message(self, message: Message, words: Sequence[str] = ()) -> list[Fragment]:
        """Format a message or an action."""
        who = (style_of(message.nick), message.nick)
        text = list(mark(message.text, self._sought(message.nick), words))
        if message.kind == "action":
            return [("", "** "), who, ("", " "), *text]
        shown: list[Fragment] = []
        for literal, field in self._form.parts:
            shown.append(("", literal))
            if field == "sender":
                shown.append(who)
            elif field == "text":
                shown += text
        return shown

    # Internals.

    @property
    def _own(self) -> str:
        """The user's nick, sanitized."""
        return name_for_screen(self._client.nick or "")

    def _sought(self, sender: str) -> str:
        """Return the nick to highlight in a message of ``sender``; empty in one's own message."""
        own = self._own
        return "" if is_address(own) or own == sender else own

    def _show(
        self,
        fragments: Sequence[Fragment],
        moment: float | None = None,
        *,
        rings: bool = False,
        settles: str | None = None,
        from_server: bool = True,
    ) -> Iterator[Block]:
        """Format a text, after a line with the date if the date has changed.

        Lines from the server begin with the user's prefix.
        """
        when = _local_time(moment)
        if self._preferences.timestamps and when[:3] != self._day:
            self._day = when[:3]
            yield Block([("class:time", time.strftime("--- %A, %Y-%m-%d ---", when))])
        shown = [("", self._preferences.prefix), *fragments] if from_server else fragments
        yield self._timed(shown, when, rings=rings, settles=settles)

    def _timed(
        self,
        fragments: Sequence[Fragment],
        when: time.struct_time,
        *,
        rings: bool = False,
        settles: str | None = None,
    ) -> Block:
        """Make a block, with the time in front if the user wants it."""
        if not self._preferences.timestamps:
            return Block(fragments, 4, rings=rings, settles=settles)
        clock = ("class:time", time.strftime("%H:%M ", when))
        return Block([clock, *fragments], 8, rings=rings, settles=settles)

    def _message(self, message: Message, *, from_server: bool = True) -> Iterator[Block]:
        if message.nonce is not None:
            self._pending.settle(message.nonce)
        past = message.offset <= self._past_end
        if past and self._announce:
            since = f"--- {self._announce}, since {_when(message.time)} ---"
            yield Block([("class:notice", since)], 4)
            self._announce = ""
        own = message.nick == self._own
        if not own and self._people.ignores(message.nick):
            return
        mentioned = not own and mentions(message.text, self._sought(message.nick))
        rings = not past and not own and self._rings(mentioned=mentioned)
        fragments = self.message(message)
        yield from self._show(
            fragments,
            message.time,
            rings=rings,
            settles=message.nonce,
            from_server=from_server,
        )

    def _rings(self, *, mentioned: bool) -> bool:
        bell = self._preferences.bell
        return bell == "all" or (mentioned and bell == "mention")

    def _history(self, history: History) -> Iterator[Block]:
        """Format the answer to a request. Unrequested history arrives as messages instead."""
        words: list[str] = []
        if history.command == "search" and self._searches:
            words = self._searches.popleft().split()
        found = [each for each in history.messages if not self._people.ignores(each.nick)]
        if not found:
            yield from self._show([("", reply("Nothing was found."))])
        for message in found:
            when = ("class:time", f"[{_when(message.time)}] ")
            # The message shows its date and time, so the block needs no other.
            yield Block([("", "-> "), when, *self.message(message, words)], 4)

    def _private(self, event: PrivateMessage) -> Iterator[Block]:
        if self._people.ignores(event.nick):
            return
        own = event.nick == self._own
        other = event.to if own else event.nick
        fragments = [
            ("class:private", _TO if own else _FROM),
            (style_of(other), other),
            ("class:private", "] "),
            ("", event.text),
        ]
        if own:
            fragments.insert(0, ("", "-> "))
        else:
            self.whispered = event.nick
        rings = not own and self._rings(mentioned=True)
        yield from self._show(fragments, event.time, rings=rings)

    def _welcome(self, welcome: Welcome) -> Iterator[Block]:
        try:
            self._form = LineFormat(welcome.format)
        except ValueError:
            # Use the default if the server's format is invalid: messages can be shown all the same.
            self._form = LineFormat("{sender}: {text}")
        # Show the greeting once. After a change of rooms or a reconnect, show the room instead.
        moved = reply(f"You are in {welcome.room} now.")
        text = moved if self._entered else welcome.greeting
        self._announce = "What came meanwhile" if self._returning else "What was said before"
        self._past_end = welcome.offset
        self._anew = self._returning and welcome.epoch != self._epoch
        self._epoch = welcome.epoch
        self._entered, self._returning = True, False
        if text:
            yield from self._show([("", text)])

    def _gap(self, event: Gap) -> Iterator[Block]:
        for line in [reply(_ANEW)] if self._anew else self._client.lines(event):
            yield self.local(line, "class:warning")

    def _disconnected(self, event: Disconnected) -> Iterator[Block]:
        self._returning = True
        self._searches.clear()
        (line,) = self._client.lines(event)
        yield self.local(line, "class:warning")
        yield self.local(f"{COMING_BACK} Ctrl+D leaves.", "class:warning")

    def _reconnected(self, _event: Reconnected) -> Iterator[Block]:
        yield self.local(AGAIN)

    def _ack(self, event: Ack) -> Iterator[Block]:
        # The server does not send this message back, or has stored it before.
        message = self._pending.settle(event.nonce)
        if message is not None:
            # The sender's nick is the current one.
            nick = self._own or message.nick
            told = msgspec.structs.replace(message, offset=event.offset, nick=nick)
            yield from self._message(told, from_server=False)

    def _error(self, event: Error) -> Iterator[Block]:
        if event.command == "search" and self._searches:
            self._searches.popleft()
        # The block indents its continuation lines.
        lines: list[Fragment] = [("class:warning", f"-> {event.text}")]
        message = None if event.nonce is None else self._pending.settle(event.nonce)
        if message is not None:
            lines += [("", "\n"), *self.message(message)]
        yield from self._show(lines, settles=event.nonce)

    def _line(self, event: Line) -> Iterator[Block]:
        # The line may be the echo of one that the main thread is sending right now.
        self._pending.let_be_shown()
        rings = self._preferences.bell == "all"
        yield from self._show([("", event.text)], rings=rings)

    def _sent(self, event: Sent) -> Iterator[Block]:
        # Typed before the dialect was known: show it like any line to such a server.
        message = self._pending.settle(event.nonce)
        if message is not None:
            typed = f"/me {message.text}" if message.kind == "action" else message.text
            shown = [("class:notice", f"> {text_for_screen(typed)}")]
            yield self._timed(shown, time.localtime(), settles=event.nonce)

    def _other(self, event: Event) -> Iterator[Block]:
        style = "class:notice" if isinstance(event, Joined | Left | Renamed | Away | Back) else ""
        for line in self._client.lines(event):
            yield from self._show([(style, line)])


def _local_time(moment: float | None) -> time.struct_time:
    """Convert to local time. Returns the current time for None and for an invalid ``moment``."""
    try:
        return time.localtime(moment)
    except (OverflowError, OSError, ValueError):
        return time.localtime()


def _when(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", _local_time(moment))


_PAINTERS: dict[type, Callable[[Renderer, Any], Iterator[Block]]] = {
    Message: Renderer._message,  # noqa: SLF001
    History: Renderer._history,  # noqa: SLF001
    PrivateMessage: Renderer._private,  # noqa: SLF001
    Welcome: Renderer._welcome,  # noqa: SLF001
    Gap: Renderer._gap,  # noqa: SLF001
    Disconnected: Renderer._disconnected,  # noqa: SLF001
    Reconnected: Renderer._reconnected,  # noqa: SLF001
    Ack: Renderer._ack,  # noqa: SLF001
    Error: Renderer._error,  # noqa: SLF001
    Line: Renderer._line,  # noqa: SLF001
    Sent: Renderer._sent,  # noqa: SLF001
}
