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
    Activity,
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
    Welcome,
    WhoisRequest,
)
from ..chat.room_names import LOBBY, check_room
from ..client import Client, Disconnected, Event, Line
from ..engine import Kind
from ..errors import ConnectionClosed, NotConnected
from .commands import (
    ALL_COMMANDS,
    ARGUMENTS,
    Clear,
    GoToRoom,
    Highlight,
    Ignore,
    InvalidCommand,
    Local,
    Part,
    Query,
    Reconnect,
    SetBell,
    Timestamp,
    Typed,
    Unhighlight,
    Unignore,
    help_text,
    parse_typed,
)
from .keeper import Keeper
from .local_settings import LocalSettings
from .model import Model
from .prompt import Prompt
from .renderer import date_of, local_line, render
from .rooms import CATCH_UP, best_matches
from .safe_text import name_for_screen, sanitized, text_for_screen
from .scrollback import Block, Scrollback
from .snapshot import Snapshot
from .style import shorten

__all__ = ["Controller", "rings"]

#: The most characters of a reason that a server takes.
_LONGEST_REASON = 200


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
        case Activity():
            return bell != "off" and bool(blocks)
        case _:
            return False


class Controller:
    """Connects the client, the model and the screen.

    :meth:`enter` is for the prompt's thread, :meth:`handle` for the printer thread.
    """

    def __init__(
        self,
        client: Client,
        model: Model,
        scrollback: Scrollback,
        prompt: Prompt,
        keeper: Keeper | None,
    ) -> None:
        self._settings = LocalSettings(client, model, keeper)
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
        if isinstance(event, Welcome):
            self._watch_others()
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
        if isinstance(event, Disconnected):
            # They are sent once: sent again, they might come twice.
            for lost in self._model.lost_whispers():
                text = f"Perhaps not delivered to {name_for_screen(lost.to)}: "
                self._tell(text + text_for_screen(lost.text), "class:warning")

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

    def switch(self, number: int) -> None:
        """Go to the followed room with this number, counted from 1; 0: to one with activity."""
        followed = self._model.followed
        if number == 0:
            active = followed.next_active()
            rooms = [] if active is None else [active]
        else:
            rooms = followed.watched[number - 1 : number]
        if rooms:
            self._go(rooms[0].name)
        elif number == 0:
            self._tell("Nothing new in other rooms.")

    # Rooms.

    def _go(self, name: str) -> None:
        """Enter a room from another one; report on the screen that it fails."""
        current = self._model.followed.current
        if current is not None and current.name == name and self._client.connected:
            self._model.talk_with(None)
            self._prompt.refresh()
            return
        try:
            self._join(name)
        except (ValueError, NotConnected, TimeoutError) as exc:
            self._tell(f"You stay in this room: {exc}", "class:warning")
        except ConnectionClosed:
            pass  # The connection has ended, which the printer thread reports.

    def _join(self, name: str) -> None:
        """Ask to enter a room, from the place that the user has seen last."""
        name = check_room(name)
        self._model.talk_with(None)
        room = self._model.followed.get(name)
        if room is None or room.place is None:
            self._client.join(name, timeout=0)
        elif room.watched and room.unread <= CATCH_UP:
            self._client.join(name, timeout=0, after=room.place)
        else:
            self._client.join(name, timeout=0, history=CATCH_UP)

    def _watch_others(self) -> None:
        """Ask the server to tell what happens in the other rooms that the user follows."""
        others = self._model.followed.others()
        if others:
            # A lost connection shows in the next event. The next welcome repeats the request.
            with contextlib.suppress(NotConnected, ConnectionClosed):
                self._client.ask(Watch(others))

    def _choose(self, typed: str) -> None:
        rooms = [room.name for room in self._model.followed.watched]
        if not typed:
            listed = ", ".join(f"{at} {name}" for at, name in enumerate(rooms, 1))
            self._tell(f"You follow {listed}. Alt and the number, or /room NAME, goes there.")
            return
        known = dict.fromkeys([*self._model.followed.by_activity(), *self._model.rooms()[0]])
        found = best_matches(typed, list(known))
        if found:
            self._go(found[0])
        else:
            self._tell(f"No room is like {typed}. /join {typed} enters a new room.")

    def _part(self, typed: str) -> None:
        followed = self._model.followed
        current = followed.current
        here = "" if current is None else current.name
        name = check_room(typed) if typed else here
        if name != here:
            if not followed.leave(name):
                self._tell(f"You do not follow {name}.")
                return
            self._client.ask(Unwatch((name,)))
            self._tell(f"You no longer follow {name}.")
            return
        target = followed.before(name) or LOBBY
        if target == name:
            self._tell("You follow no other room. /quit leaves the chat.")
            return
        self._client.ask(Unwatch((name,)))
        self._join(target)
        followed.leave(name)

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
                self._speak(line, command)
            case Join():
                self._join(command.room)
            case Reply():
                self._reply(command.text)
            case Quit():
                self._prompt.end()
            case Leave():
                self._leave(command.reason)
            case Clear():
                self._prompt.clear()
            case InvalidCommand():
                self._tell(command.text, "class:warning")
            case Help():
                self._tell(self._help(command.command))
            case SetBell() | Timestamp() | Ignore() | Unignore() | Highlight() | Unhighlight():
                self._tell(self._settings.carry_out(command))
            case GoToRoom():
                self._choose(command.typed)
            case Part():
                self._part(command.room)
            case Query():
                self._query(command.nick)
            case Reconnect():
                self._client.reconnect()
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

    def _leave(self, reason: str) -> None:
        if reason:
            # Without a connection, leave without it.
            with contextlib.suppress(NotConnected):
                self._client.ask(Leave(reason[:_LONGEST_REASON]))
        self._prompt.end()

    def _speak(self, line: str, message: Say | Action) -> None:
        """Send a text to the room, or to the person whom the user talks with."""
        partner = self._model.partner
        if partner is None:
            self._say(line, message)
        elif isinstance(message, Say):
            self._model.ask(self._client.ask, Private(partner, message.text))
        else:
            self._tell(f"An action goes to the room: /query ends the talk with {partner} first.")

    def _query(self, nick: str) -> None:
        nick = nick.removeprefix("@").rstrip(":,")
        before = self._model.partner
        self._model.talk_with(nick or None)
        if nick:
            self._tell(f"What you type goes to {nick} now. /query ends that.")
        elif before is None:
            self._tell("What you type goes to the room.")
        else:
            self._tell(f"What you type goes to the room again, not to {before}.")

    def _reply(self, text: str) -> None:
        """Answer the last sender that was shown, which is not an ignored one."""
        whispered = self._model.whispered
        if whispered is None:
            self._tell("No private message to reply to.", "class:warning")
        else:
            self._model.ask(self._client.ask, Private(whispered, text))

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
