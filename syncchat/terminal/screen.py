"""The client at a terminal: the calling thread runs the prompt, and a second thread prints."""

from __future__ import annotations

import contextlib
import errno
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TextIO

from prompt_toolkit.application import get_app_session
from prompt_toolkit.output import Output
from prompt_toolkit.output.vt100 import Vt100_Output

from ..chat.events import NamesRequest
from ..chat.sanitize import indent
from ..client import Client
from ..errors import ConnectionClosed
from .commands import ARGUMENTS, LocalCommands
from .completion import ChatCompleter
from .controller import Controller
from .drawing import HoldingOutput
from .exit_status import CONNECTED, exit_status
from .input_history import open_history
from .pending import Pending
from .people import People
from .preferences import Preferences
from .printer import Printer
from .prompt import Prompt
from .questions import Questions
from .renderer import Renderer
from .room_cache import RoomCache
from .sanitize import text_for_screen
from .scrollback import Scrollback
from .style import color_depth
from .toolbar import status_line

__all__ = ["run_screen"]

#: Error numbers that mean that the terminal is closed.
_CLOSED = frozenset({errno.EIO, errno.EBADF, errno.ENXIO, errno.EPIPE})

#: The most undelivered messages that are shown at the end, and the most characters of
#: each. The history of typed lines has them, too.
_MOST_LOST, _LONGEST_LOST = 10, 1000

#: Seconds that the server gets to acknowledge the last messages, and then to answer the Close.
_FAREWELL = 3.0


def run_screen(
    client: Client,
    preferences: Preferences,
    typed: Path,
    token: str | None = None,
    *,
    errors: TextIO | None = None,
) -> int:
    """Run the chat until the user leaves or the connection ends. Returns the exit code.

    ``typed`` is the history file of typed lines. Lines that contain ``token`` are not
    stored there. What is told after the prompt has ended goes to ``errors``, by default
    standard error.

    Uses the input and the output of prompt_toolkit's current session, which are the
    standard ones unless :func:`prompt_toolkit.application.create_app_session` says
    otherwise. Signals are handled on the main thread only.
    """
    told = sys.stderr if errors is None else errors
    try:
        return _Screen(client, preferences, typed, token, told).run()
    except OSError as exc:
        # A closed terminal ends the program quietly, wherever the error occurs.
        if exc.errno not in _CLOSED:
            print(f"cannot use the terminal: {exc.strerror}", file=told)
            return 1
    return 1 if client.unacknowledged else 0


class _Screen:
    """Creates the parts of the screen, and stops them at the end."""

    def __init__(
        self,
        client: Client,
        preferences: Preferences,
        typed: Path,
        token: str | None,
        errors: TextIO,
    ) -> None:
        self._client = client
        self._errors = errors
        self._output = _output()
        depth = color_depth(preferences.color)
        self._people = People()
        self._pending = Pending()
        self._rooms = RoomCache(client)
        self._names = Questions(client, NamesRequest())
        self._renderer = Renderer(client, self._people, preferences, self._pending)
        self._scrollback = Scrollback(self._output, depth, self._pending.printed)
        commands = LocalCommands(
            preferences, self._people, lambda: client.nick, self._clear, self._size
        )
        self._controller = Controller(
            client,
            self._renderer,
            self._scrollback,
            self._pending,
            self._rooms.questions,
            self._names,
            commands,
            self._leave,
        )
        self._prompt = Prompt(
            output=self._output,
            depth=depth,
            history=open_history(typed, token, self._warn),
            completer=ChatCompleter(
                ARGUMENTS, self._people, lambda: client.nick, self._rooms.names
            ),
            on_enter=self._controller.enter,
            above=lambda: self._controller.above(self._size()[0]),
            status=lambda: status_line(
                client,
                self._people,
                self._size()[0],
                latency=self._printer.latency,
                silence=self._printer.silence,
                away=self._printer.away is not None,
            ),
        )
        self._printer = Printer(
            client,
            self._renderer,
            self._people,
            self._rooms,
            self._names,
            self._scrollback,
            self._prompt,
        )

    def run(self) -> int:
        """Run the chat until the user leaves or the connection ends. Returns the exit code."""
        self._output.write_raw(f"{CONNECTED}\n")
        self._output.flush()
        with _signals_end(self._prompt.end):
            try:
                self._printer.start()
                self._prompt.run(
                    lambda: self._scrollback.attach(self._prompt.app, self._prompt.held)
                )
            except (EOFError, KeyboardInterrupt):
                pass  # Ctrl+D, Ctrl+C: leave.
            finally:
                left = self._printer.outcome is None and self._printer.failure is None
                self._scrollback.detach()
                # A second Ctrl+C cuts the wait short. The undelivered messages are
                # reported all the same.
                with contextlib.suppress(KeyboardInterrupt):
                    self._say_goodbye()
                with contextlib.suppress(KeyboardInterrupt):
                    self._client.close(0)
                    if self._printer.ident is not None:
                        self._printer.join()
        self._scrollback.flush()
        return self._result(left=left)

    def _say_goodbye(self) -> None:
        client = self._client
        if client.retry_in is None and client.close_code is None:
            with contextlib.suppress(TimeoutError, ConnectionClosed):
                client.flush(_FAREWELL)
            client.close(_FAREWELL)

    def _result(self, *, left: bool) -> int:
        code = 0
        if self._printer.failure is not None:
            print(f"The client has a mistake: {self._printer.failure!r}.", file=self._errors)
            code = 1
        elif not left and self._printer.outcome is not None:
            line, code = exit_status(self._printer.outcome)
            print(line, file=self._errors)
        lost = self._pending.unanswered
        if lost:
            code = 1
            print(f"Not delivered: {len(lost)} of your messages.", file=self._errors)
            for message in lost[:_MOST_LOST]:
                text = text_for_screen(message.text[:_LONGEST_LOST])
                print(indent(f"    {text}"), file=self._errors)
        if not left and self._prompt.text:
            print(indent(f"Not sent: {text_for_screen(self._prompt.text)}"), file=self._errors)
        return code

    def _size(self) -> tuple[int, int]:
        size = self._output.get_size()
        return size.columns, size.rows

    def _leave(self) -> None:
        self._prompt.end()

    def _clear(self) -> None:
        self._prompt.clear()

    def _warn(self, text: str) -> None:
        self._scrollback.add(self._renderer.local(f"-> {text}", "class:warning"))


def _output() -> Output:
    output = get_app_session().output
    return HoldingOutput(output) if isinstance(output, Vt100_Output) else output


@contextmanager
def _signals_end(end: Callable[[], None]) -> Iterator[None]:
    """Make SIGTERM and a closed terminal call ``end``, so that the client leaves in order."""
    numbers = {signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}

    def leave(_signum: int, _frame: FrameType | None) -> None:
        # A second signal ends the process at once: the terminal may be stuck.
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)
        end()

    if threading.current_thread() is not threading.main_thread():
        # Only the main thread can handle signals.
        numbers.clear()
    before = {
        number: signal.signal(number, leave)
        for number in numbers
        # Under nohup, SIGHUP is ignored: leave it so.
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
