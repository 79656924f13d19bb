"""The client at a terminal: prompt_toolkit reads on the main thread, a worker prints."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from prompt_toolkit.output import Output, create_output
from prompt_toolkit.output.vt100 import Vt100_Output

from ..client import Client
from ..errors import ConnectionClosed
from .commands import ARGUMENTS, LocalCommands
from .completion import ChatCompleter
from .conversation import Conversation
from .farewell import CONNECTED, farewell
from .known_rooms import KnownRooms
from .painter import Painter
from .people import People
from .preferences import Preferences
from .printer import Printer
from .prompt import Prompt
from .scrollback import Scrollback
from .strangers import name_for_screen, text_for_screen
from .style import color_depth
from .toolbar import status_line
from .typed import open_history
from .waiting import Waiting

__all__ = ["run_screen"]

#: Seconds that a server gets to answer a goodbye.
_FAREWELL = 3.0


def run_screen(
    client: Client, preferences: Preferences, typed: Path, token: str | None = None
) -> int:
    """Talk until somebody leaves. Returns the exit code.

    ``typed`` is the file of what was typed before, in which ``token`` is not to stand.
    """
    with contextlib.suppress(OSError):
        # A terminal that is closed ends it quietly, wherever that is noticed.
        return _Screen(client, preferences, typed, token).run()
    return 0 if not client.unacknowledged else 1


class _Screen:
    """Puts the parts together, and takes them apart in the end."""

    def __init__(
        self, client: Client, preferences: Preferences, typed: Path, token: str | None
    ) -> None:
        self._client = client
        self._output = _output()
        depth = color_depth(preferences.color)
        self._people = People()
        self._waiting = Waiting()
        self._rooms = KnownRooms(client)
        self._painter = Painter(client, self._people, preferences, self._waiting)
        self._scrollback = Scrollback(self._output, depth, self._waiting.printed)
        commands = LocalCommands(preferences, self._people, self._clear, self._size)
        self._conversation = Conversation(
            client,
            self._painter,
            self._scrollback,
            self._waiting,
            self._rooms,
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
            on_enter=self._conversation.enter,
            above=lambda: self._conversation.above(self._size()[0]),
            status=lambda: status_line(
                client,
                self._people,
                self._printer.latency,
                self._size()[0],
                away=self._printer.away is not None,
            ),
        )
        self._printer = Printer(
            client, self._painter, self._people, self._rooms, self._scrollback, self._prompt
        )

    def run(self) -> int:
        """Talk until somebody leaves. Returns the exit code."""
        print(CONNECTED, flush=True)
        with _signals_end(self._prompt.end):
            try:
                self._printer.start()
                self._prompt.run(lambda: self._scrollback.attach(self._prompt.app))
            except (EOFError, KeyboardInterrupt):
                pass  # Ctrl+D, Ctrl+C: leave.
            finally:
                left = self._printer.outcome is None
                self._scrollback.detach()
                self._say_goodbye()
        self._scrollback.flush()
        return self._result(left=left)

    def _say_goodbye(self) -> None:
        client = self._client
        # Whoever cannot wait for the answer presses Ctrl+C once more.
        with contextlib.suppress(KeyboardInterrupt):
            if client.connected:
                with contextlib.suppress(TimeoutError, ConnectionClosed):
                    client.flush(_FAREWELL)
            client.close(_FAREWELL)
        client.close(0)
        if self._printer.ident is not None:
            self._printer.join()

    def _result(self, *, left: bool) -> int:
        lost = self._client.unacknowledged
        if lost:
            print(f"Not delivered: {lost} of your messages.", file=sys.stderr)
            for message in self._waiting.shown:
                print(f"    {name_for_screen(message.text)}", file=sys.stderr)
            return 1
        outcome = self._printer.outcome
        if left or outcome is None:
            return 0
        line, code = farewell(outcome)
        print(line, file=sys.stderr)
        if self._prompt.text:
            print(f"Not sent: {text_for_screen(self._prompt.text)}", file=sys.stderr)
        return code

    def _size(self) -> tuple[int, int]:
        size = self._output.get_size()
        return size.columns, size.rows

    def _leave(self) -> None:
        self._prompt.end()

    def _clear(self) -> None:
        self._prompt.app.renderer.clear()

    def _warn(self, text: str) -> None:
        self._scrollback.add(self._painter.local(f"-> {text}", "class:warning"))


def _output() -> Output:
    output = create_output()
    if isinstance(output, Vt100_Output):
        # Nothing depends on where the cursor is, and a terminal that answers
        # late would have its answer typed into the shell.
        output.enable_cpr = False
    return output


@contextmanager
def _signals_end(end: Callable[[], None]) -> Iterator[None]:
    """SIGTERM and a closed terminal call ``end``, so that one leaves in order."""

    def leave(_signum: int, _frame: FrameType | None) -> None:
        end()

    numbers = [signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)]
    before = {
        number: signal.signal(number, leave)
        for number in numbers
        # Who started us with nohup wants us to stay.
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
