"""Carries out what the user types, and shows what the server sends."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import assert_never

from ..chat.commands import Help, Quit, Reply, unknown
from ..chat.events import (
    Action,
    AwayRequest,
    BackRequest,
    Ban,
    BansRequest,
    Deop,
    Error,
    HistoryRequest,
    Join,
    KickRequest,
    Leave,
    Message,
    MotdRequest,
    Mute,
    NamesRequest,
    Nick,
    Op,
    Private,
    PrivateMessage,
    ReadOnlyRequest,
    Redact,
    Rooms,
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
from ..client import Client, Event, Line
from ..engine import Kind
from ..errors import ConnectionClosed, NotConnected
from .commands import (
    ALL_COMMANDS,
    ARGUMENTS,
    Clear,
    Ignore,
    InvalidCommand,
    Local,
    SetBell,
    Timestamp,
    Typed,
    Unignore,
    help_text,
    parse_typed,
)
from .model import Model
from .prompt import Prompt
from .renderer import date_of, local_line, name_for_screen, render, sanitized
from .scrollback import Block, Scrollback
from .snapshot import BELLS, Snapshot
from .style import shorten

__all__ = ["Controller", "rings"]


def rings(event: Event, snapshot: Snapshot, blocks: Sequence[Block]) -> bool:
    """Whether the bell rings for ``event``, which is shown as ``blocks``."""
    bell = snapshot.preferences.bell
    match event:
        case Line():
            return bell == "all"
        case PrivateMessage():
            return bell != "off" and event.nick != snapshot.own and bool(blocks)
        case Message():
            if event.nick == snapshot.own or snapshot.is_history or snapshot.ignores(event.nick):
                return False
            mentioned = any(
                style == "class:mention" for block in blocks for style, _ in block.fragments
            )
            return bell == "all" or (bell == "mention" and mentioned)
        case _:
            return False


class Controller:
    """Connects the client, the model and the screen.

    :meth:`enter` is for the prompt's thread, :meth:`handle` for the printer thread.
    """

    def __init__(
        self, client: Client, model: Model, scrollback: Scrollback, prompt: Prompt
    ) -> None:
        self._client = client
        self._model = model
        self._scrollback = scrollback
        self._prompt = prompt
        #: The last date shown: the first three members of a struct_time.
        self._day: tuple[int, ...] = time.localtime()[:3]

    # What the server sends.

    def handle(self, received: Event) -> None:
        """Apply an event to the model, and show it. Blocks while the scrollback's queue is full."""
        event = sanitized(received)
        snapshot = self._model.apply(event, name_for_screen(self._client.nick or ""))
        if snapshot.away_again is not None:
            # The server does not know that this new connection is away. If it breaks
            # again, the next welcome repeats the request.
            with contextlib.suppress(NotConnected, ConnectionClosed):
                self._client.ask(AwayRequest(snapshot.away_again))
        if not snapshot.shown:
            if isinstance(event, Rooms) or (isinstance(event, Error) and event.command == "rooms"):
                self._prompt.complete_again()
            else:
                self._prompt.refresh()
            return
        blocks = render(event, snapshot, self._client.lines)
        last = blocks[-1].dated if blocks else None
        if last is not None and last[:3] != self._day:
            self._day = last[:3]
            blocks.insert(-1, date_of(last))
        if not blocks:
            self._prompt.refresh()
            return
        if rings(event, snapshot, blocks):
            # The bell rings after the text is printed.
            blocks[-1] = replace(blocks[-1], rings=True)
        self._scrollback.add(*blocks)

    # What the user types.

    def enter(self, text: str) -> None:
        """Carry out what was typed, and report errors on the screen. Never blocks."""
        if not text.strip():
            return
        line, command = parse_typed(text)
        try:
            if (
                self._client.room is None
                and not isinstance(command, Local)
                and line.strip().lower() != "/quit"
            ):
                # A server that does not speak syncchat.v1 may have commands itself.
                self._say(line, None)
            else:
                self._act(line, command)
        except (ValueError, NotConnected, TimeoutError) as exc:
            beginning = shorten(" ".join(text[:100].split()), 40)
            self._tell(f"Not sent: {beginning} ({exc})", "class:warning")
        except ConnectionClosed:
            pass  # The connection has ended, which the printer thread reports.

    # Internals.

    def _tell(self, text: str, style: str = "") -> None:
        """Print a line of the client itself."""
        self._scrollback.add(local_line(f"-> {text}", self._model.preferences, style))

    def _say(self, line: str, message: Say | Action | None) -> None:
        """Send ``message``, or ``line`` as it is, and show it until the server has answered.

        If the server does not speak ``syncchat.v1``, its echo cannot be told from the
        messages of others. Then ``line`` is printed as typed, before the echo.
        """
        client = self._client
        text = line
        kind: Kind = "message"
        send = partial(client.send_line, line, 0)
        if isinstance(message, Say):
            text = message.text
            send = partial(client.say, text, 0)
        elif isinstance(message, Action):
            text, kind = message.text, "action"
            send = partial(client.act, text, 0)
        self._model.say(
            send,
            Message(0, time.time(), client.nick or "", text, kind),
            lambda: self._scrollback.add(
                local_line(f"> {line}", self._model.preferences, "class:notice")
            ),
        )

    def _act(self, line: str, command: Typed) -> None:
        match command:
            case Say() | Action():
                self._say(line, command)
            case Join():
                self._client.join(command.room, timeout=0)
            case Reply():
                self._reply(command.text)
            case Quit():
                self._prompt.end()
            case Clear():
                self._prompt.clear()
            case InvalidCommand():
                self._tell(command.text, "class:warning")
            case Help():
                self._tell(self._help(command.command))
            case SetBell():
                self._tell(self._bell(command.when))
            case Timestamp():
                self._tell(self._timestamp(command.wanted))
            case Ignore():
                self._tell(self._ignore(command.nick))
            case Unignore():
                self._tell(self._unignore(command.nick))
            case (
                Private()
                | Nick()
                | NamesRequest()
                | HistoryRequest()
                | Search()
                | RoomsRequest()
                | WhoisRequest()
                | AwayRequest()
                | BackRequest()
                | Leave()
                | Watch()
                | Unwatch()
                | Seen()
                | KickRequest()
                | Ban()
                | Unban()
                | BansRequest()
                | Mute()
                | Unmute()
                | TopicRequest()
                | Redact()
                | MotdRequest()
                | ReadOnlyRequest()
                | Op()
                | Deop()
            ):
                self._model.ask(self._client.ask, command)
            case _:
                assert_never(command)

    def _reply(self, text: str) -> None:
        """Answer the last sender that was shown, which is not an ignored one."""
        whispered = self._model.whispered
        if whispered is None:
            self._tell("No private message to reply to.", "class:warning")
        else:
            self._client.ask(Private(whispered, text))

    def _help(self, argument: str) -> str:
        name = argument.removeprefix("/").lower()
        if not name:
            size = self._prompt.size
            # Subtract the indent from the columns; the heading, the prompt and the
            # toolbar from the rows.
            return "Commands:\n" + help_text(size.columns - 4, size.rows - 3)
        if name not in ALL_COMMANDS:
            return unknown(name, ALL_COMMANDS)
        return f"{f'/{name} {ARGUMENTS[name]}'.rstrip()}: {ALL_COMMANDS[name].help}"

    def _bell(self, argument: str) -> str:
        for bell in BELLS:
            if argument.lower() == bell:
                self._model.set_preferences(replace(self._model.preferences, bell=bell))
                return f"The bell is set to {bell}."
        if argument:
            return "Usage: /bell off|mention|all"
        return f"The bell is set to {self._model.preferences.bell}."

    def _timestamp(self, argument: str) -> str:
        # The name of the format works like "on".
        shown = self._model.preferences.timestamps
        wanted = {"": not shown, "on": True, "hh:mm": True, "off": False}.get(argument.lower())
        if wanted is None:
            return "Usage: /timestamp [on|off]"
        self._model.set_preferences(replace(self._model.preferences, timestamps=wanted))
        return f"Timestamps are {'on' if wanted else 'off'}."

    def _ignore(self, argument: str) -> str:
        if len(argument.split()) > 1:
            return "Usage: /ignore NAME"
        nick = argument.removeprefix("@").rstrip(":,")
        if nick and nick.casefold() == (self._client.nick or "").casefold():
            return "You cannot ignore yourself."
        if nick and not self._model.knows(nick):
            return f"{nick} is not in this room and has sent no message."
        if nick:
            self._model.ignore(nick)
            return f"You ignore {nick} now. /unignore {nick} undoes it."
        ignored = self._model.ignored
        return f"You ignore {', '.join(ignored)}." if ignored else "You ignore nobody."

    def _unignore(self, argument: str) -> str:
        if not argument:
            return "Usage: /unignore NAME"
        if self._model.unignore(argument):
            return f"You no longer ignore {argument}."
        return f"You do not ignore {argument}."
