"""Carries out what the user types: runs local commands, and sends everything else."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..chat.commands import Quit, Reply, parse
from ..chat.events import (
    Action,
    Message,
    NamesRequest,
    Private,
    RoomsRequest,
    Say,
    Search,
)
from ..client import Client
from ..engine import Kind
from ..errors import BadEvent, ConnectionClosed, NotConnected
from .commands import LocalCommands
from .pending import Pending
from .questions import Questions
from .renderer import Renderer
from .scrollback import Scrollback
from .wrapping import Fragment, shorten

__all__ = ["Controller"]

#: The most pending messages shown above the prompt: the latest ones.
_MOST_SHOWN = 3


class Controller:
    """Handles the user's input. Only for the main thread. ``leave`` ends the conversation."""

    def __init__(
        self,
        client: Client,
        renderer: Renderer,
        scrollback: Scrollback,
        pending: Pending,
        rooms: Questions,
        names: Questions,
        commands: LocalCommands,
        leave: Callable[[], None],
    ) -> None:
        self._client = client
        self._renderer = renderer
        self._scrollback = scrollback
        self._pending = pending
        self._rooms = rooms
        self._names = names
        self._commands = commands
        self._leave = leave

    def enter(self, text: str) -> None:
        """Carry out what was typed, and report errors on the screen. Never blocks."""
        if not text.strip():
            return
        if self._commands.complaint(text.lstrip()) is None and text.lstrip().startswith("/"):
            # Remove blanks before a command: a private message must not go to the room by mistake.
            text = text.lstrip()
        answer = self._commands.run(text)
        if answer is not None:
            self._tell(answer)
            return
        try:
            self._send(text)
        except BadEvent as exc:
            self._tell(str(exc), "class:warning")
        except (ValueError, NotConnected, TimeoutError) as exc:
            beginning = shorten(" ".join(text[:100].split()), 40)
            self._tell(f"Not sent: {beginning} ({exc})", "class:warning")
        except ConnectionClosed:
            pass  # The connection has ended, which the printer thread reports.

    def above(self, columns: int) -> list[Fragment]:
        """Format the pending messages for the rows above the prompt."""
        shown = self._pending.shown
        lines = []
        if len(shown) > _MOST_SHOWN:
            lines.append(f"… {len(shown) - _MOST_SHOWN} more")
        for message in shown[-_MOST_SHOWN:]:
            act = "/me " if message.kind == "action" else ""
            text = " ".join(message.text[: 4 * columns].split())
            lines.append(shorten(f"… {act}{text}", columns))
        return [("class:waiting", "\n".join(lines))] if lines else []

    # Internals.

    def _tell(self, text: str, style: str = "") -> None:
        if text:
            self._scrollback.add(self._renderer.local(f"-> {text}", style))

    def _send(self, line: str) -> None:
        client = self._client
        if client.room is None and line.startswith("/") and line.strip().lower() != "/quit":
            # A server that does not speak syncchat.v1 may have commands itself.
            self._say(line, line, "message")
            return
        complaint = self._commands.complaint(line)
        if complaint is not None:
            self._tell(complaint, "class:warning")
            return
        asked = parse(line)
        if isinstance(asked, Quit):
            self._leave()
        elif isinstance(asked, Reply):
            # Answer the last sender that was shown, which is not an ignored one.
            if self._renderer.whispered is None:
                self._tell("Nobody has said anything to you alone.", "class:warning")
            else:
                client.ask(Private(self._renderer.whispered, asked.text))
        elif isinstance(asked, Say | Action):
            self._say(line, asked.text, "action" if isinstance(asked, Action) else "message")
        elif isinstance(asked, Search):
            self._renderer.searching(asked.words, lambda: client.send_line(line, timeout=0))
        elif isinstance(asked, RoomsRequest) and client.connected:
            self._rooms.ask(by_person=True)
        elif isinstance(asked, NamesRequest) and client.connected:
            self._names.ask(by_person=True)
        else:
            client.send_line(line, timeout=0)

    def _say(self, line: str, text: str, kind: Kind) -> None:
        """Send ``line``, which means ``text``, and show it until the server has answered.

        If the server does not speak ``syncchat.v1``, its echo cannot be told from the
        messages of others. Then ``line`` is printed as typed, before the echo.
        """
        client = self._client
        self._pending.send(
            lambda: client.send_line(line, timeout=0),
            Message(0, time.time(), client.nick or "", text, kind),
            lambda: self._scrollback.add(self._renderer.local(f"> {line}", "class:notice")),
        )
