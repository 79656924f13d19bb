"""The client at a terminal: the calling thread runs the prompt, and a second thread prints."""

from __future__ import annotations

import contextlib
import errno
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TextIO

from prompt_toolkit.application import get_app_session
from prompt_toolkit.output import Output
from prompt_toolkit.output.vt100 import Vt100_Output

from ..chat.events import NamesRequest, Seen, Welcome
from ..chat.sanitize import indent
from ..client import Client, Disconnected, Event
from ..errors import ConnectionClosed, NotConnected
from .commands import ARGUMENTS
from .completion import ChatCompleter
from .controller import Controller
from .input_history import open_history
from .keeper import Keeper
from .model import Model
from .prompt import Prompt
from .renderer import CONNECTED, exit_status, local_line, pending_lines
from .safe_text import text_for_screen
from .scrollback import HoldingOutput, Scrollback
from .snapshot import Preferences
from .style import color_depth
from .toolbar import status_line

__all__ = ["run_screen"]

#: Error numbers that mean that the terminal is closed.
_CLOSED = frozenset({errno.EIO, errno.EBADF, errno.ENXIO, errno.EPIPE})

#: The most undelivered messages that are shown at the end, and the most characters of
#: each. The history of typed lines has them, too.
_MOST_LOST, _LONGEST_LOST = 10, 1000

#: Seconds that the server gets to acknowledge the last messages, and then to answer the Close.
_LEAVE_TIMEOUT = 3.0

#: Seconds between two measurements of the round trip, and between two updates of a countdown.
_MEASURE, _COUNT = 10.0, 0.5

#: Seconds between two requests for the names, if the server sends no notices: a
#: minimum, and a part per person in the room. Because of the latter, the total traffic
#: of these requests in a large room does not grow with the square of its size.
_ASK_NAMES, _ASK_NAMES_PER_PERSON = 10.0, 0.1

#: Seconds between two times when the places in the rooms are kept.
_KEEP = 2.0


def run_screen(
    client: Client,
    preferences: Preferences,
    history_file: Path,
    token: str | None = None,
    *,
    keeper: Keeper | None = None,
    errors: TextIO | None = None,
) -> int:
    """Run the chat until the user leaves or the connection ends. Returns the exit code.

    ``history_file`` keeps the typed lines. Lines that contain ``token`` are not
    stored there. ``keeper`` keeps what the user has read, and more. Messages printed
    after the prompt has closed go to ``errors``, by default standard error.

    Uses the input and the output of prompt_toolkit's current session, which are the
    standard ones unless :func:`prompt_toolkit.application.create_app_session` says
    otherwise. Signals are handled on the main thread only.
    """
    told = sys.stderr if errors is None else errors
    try:
        return _Screen(client, preferences, history_file, token, keeper, told).run()
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
        history_file: Path,
        token: str | None,
        keeper: Keeper | None,
        errors: TextIO,
    ) -> None:
        self._client = client
        self._errors = errors
        self._output = _output()
        depth = color_depth(preferences.color)
        self._model = model = _model(preferences, keeper)
        if keeper is not None:
            keeper.warn = self._warn
        self._scrollback = Scrollback(self._output, depth, model.printed)
        self._prompt = Prompt(
            output=self._output,
            depth=depth,
            history=open_history(history_file, token, self._warn),
            completer=ChatCompleter(client, model, ARGUMENTS),
            above=lambda: pending_lines(model.pending, self._output.get_size().columns),
            status=lambda: status_line(client, model, self._output.get_size().columns),
        )
        self._controller = Controller(client, model, self._scrollback, self._prompt, keeper)
        self._printer = _Printer(client, model, self._controller, self._prompt, keeper)

    def run(self) -> int:
        """Run the chat until the user leaves or the connection ends. Returns the exit code."""
        self._output.write_raw(f"{CONNECTED}\n")
        self._output.flush()
        with _signals_end(self._prompt.end):
            try:
                self._printer.start()
                self._prompt.run(
                    self._controller.enter,
                    self._controller.switch,
                    lambda: self._scrollback.attach(self._prompt.app, self._prompt.held),
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
                self._printer.keep_places()
        self._scrollback.flush()
        return self._result(left=left)

    def _say_goodbye(self) -> None:
        client = self._client
        if client.retry_in is None and client.close_code is None:
            with contextlib.suppress(TimeoutError, ConnectionClosed):
                self._printer.keep_places()
                client.flush(_LEAVE_TIMEOUT)
            client.close(_LEAVE_TIMEOUT)

    def _result(self, *, left: bool) -> int:
        code = 0
        if self._printer.failure is not None:
            print(f"Internal error: {self._printer.failure!r}.", file=self._errors)
            code = 1
        elif not left and self._printer.outcome is not None:
            line, code = exit_status(self._printer.outcome)
            print(line, file=self._errors)
        lost = self._model.unanswered
        if lost:
            code = 1
            print(f"Not delivered: {len(lost)} of your messages.", file=self._errors)
            for message in lost[:_MOST_LOST]:
                text = text_for_screen(message.text[:_LONGEST_LOST])
                print(indent(f"    {text}"), file=self._errors)
        if not left and self._prompt.text:
            print(indent(f"Not sent: {text_for_screen(self._prompt.text)}"), file=self._errors)
        return code

    def _warn(self, text: str) -> None:
        line = local_line(f"-> {text}", self._model.preferences, "class:warning")
        self._scrollback.add(line)


class _Printer(threading.Thread):
    """The thread that receives events and has them shown. It ends the prompt after the last one.

    Meanwhile, it measures the round trip to the server, and asks for the names if the
    server does not tell who comes and leaves. Joined by the screen, after the client's
    ``close`` has ended it.
    """

    def __init__(
        self,
        client: Client,
        model: Model,
        controller: Controller,
        prompt: Prompt,
        keeper: Keeper | None,
    ) -> None:
        super().__init__(name="syncchat-printer", daemon=True)
        self._client = client
        self._model = model
        self._controller = controller
        self._prompt = prompt
        self._keeper = keeper
        #: When to keep the places that have changed; never if none has.
        self._keep_at = math.inf
        #: Whether the server keeps the user's places, too.
        self._is_person = False
        self._measure_at = 0.0
        #: When to ask for the names again; never if notices tell who comes and leaves.
        self._names_at = math.inf
        #: How the connection ended; None until then.
        self.outcome: ConnectionClosed | None = None
        #: The unexpected exception that ended the thread; None if there was none.
        self.failure: Exception | None = None

    def run(self) -> None:
        """Print until the connection ends."""
        try:
            while True:
                self._ask_names()
                if time.monotonic() >= self._keep_at:
                    self.keep_places()
                try:
                    event = self._client.receive(self._pause())
                except TimeoutError:
                    self._idle()
                else:
                    self._controller.handle(event)
                    self._schedule(event)
        except ConnectionClosed as exc:
            self.outcome = exc
        except Exception as exc:  # noqa: BLE001 - reported after the end of the prompt
            self.failure = exc
        finally:
            self._prompt.end()

    def _schedule(self, event: Event) -> None:
        """Note when to measure, to ask for the names, and to keep the places."""
        if self._keep_at == math.inf:
            self._keep_at = time.monotonic() + _KEEP
        if isinstance(event, Disconnected):
            self._names_at = math.inf
            self._model.latency = self._model.pinged_at = None
        elif isinstance(event, Welcome):
            self._measure_at = 0.0
            self._is_person = event.person is not None
            self._names_at = math.inf if event.notices else self._next_names_at()

    def _pause(self) -> float:
        if self._client.retry_in is not None or self._model.pinged_at is not None:
            return _COUNT
        due_at = min(self._measure_at, self._names_at, self._keep_at)
        return max(0.0, due_at - time.monotonic())

    def keep_places(self) -> None:
        """Keep what the user has seen, here and at the server. Any thread may call this."""
        self._keep_at = math.inf
        changed = self._model.followed.take_changed()
        if self._keeper is not None:
            self._keeper.put_rooms(changed)
        if self._is_person:
            # A lost connection shows in the next event. The file has the places.
            with contextlib.suppress(NotConnected, ConnectionClosed):
                for room in changed:
                    if room.place is not None:
                        self._client.ask(Seen(room.name, room.place))

    def _next_names_at(self) -> float:
        pause = max(_ASK_NAMES, _ASK_NAMES_PER_PERSON * self._model.count)
        return time.monotonic() + pause

    def _ask_names(self) -> None:
        """Ask for the names if it is time."""
        if time.monotonic() < self._names_at:
            return
        self._names_at = self._next_names_at()
        # A lost connection shows in the next event.
        with contextlib.suppress(NotConnected, ConnectionClosed):
            self._model.ask(self._client.ask, NamesRequest(), by_user=False)

    def _idle(self) -> None:
        """Update the screen, or measure the round trip, after a moment without events."""
        if self._client.retry_in is not None or self._model.pinged_at is not None:
            self._prompt.refresh()
            return
        now = time.monotonic()
        if now < self._measure_at:
            return
        # Another thread sets it to None when the pong arrives.
        self._model.pinged_at = now
        self._measure_at = now + _MEASURE
        # A lost connection shows in the next event.
        with contextlib.suppress(ConnectionClosed):
            self._client.ping().add_done_callback(self._measured)

    def _measured(self, pong: Future[float]) -> None:
        """Store the round trip. Called on the client's thread."""
        self._model.pinged_at = None
        if pong.exception() is None:
            self._model.latency = pong.result()
            self._prompt.refresh()


def _model(preferences: Preferences, keeper: Keeper | None) -> Model:
    if keeper is None:
        return Model(preferences)
    return Model(preferences, keeper.rooms(), keeper.words("ignored"), keeper.words("marked"))


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
