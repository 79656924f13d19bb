"""The client without a prompt: in a pipe, or as a service that only listens."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Self

import msgspec

from ..chat.events import Error, History, Message, PrivateMessage, Welcome
from ..chat.sanitize import clean, indent
from ..client import Client, Disconnected, Event, Line, Reconnected
from ..closecodes import NORMAL
from ..errors import ConnectionClosed, NotConnected
from ..lines import LONGEST, input_lines
from ..net import Deadline
from .pipe_progress import InputLines, RateLimit
from .renderer import AGAIN, COMING_BACK, CONNECTED, exit_status, local_time
from .safe_text import sanitized
from .standard_streams import StandardError, input_counter

__all__ = ["run_pipe"]

#: Seconds to wait, perhaps unnoticed, for an unreachable server after the end of the input.
_PATIENCE = 60.0

#: Seconds between two checks whether the server is reachable.
_LOOK = 0.5

#: Seconds that the server gets after a signal, to acknowledge the last lines and to answer
#: the Close.
_LEAVE_TIMEOUT = 3.0


def run_pipe(
    client: Client,
    prefix: str = "",
    *,
    as_json: bool = False,
    listen: bool = False,
    timestamps: bool = False,
) -> int:
    """Send every line of standard input and print every message. Returns the exit code.

    Returns when the server has acknowledged all input, or is gone for good, or nobody
    reads the output any more. With ``listen``, reads no input, and runs until SIGINT,
    SIGTERM or SIGHUP. Messages go to standard output and everything else to standard
    error; with ``as_json``, all events go to standard output. With ``timestamps``, the local
    date and time is in front of each message. Only for the main thread.
    """
    errors = StandardError()
    printer = _Printer(
        client, prefix, errors, as_json=as_json, listen=listen, timestamps=timestamps
    )
    refused = False
    with _SignalThread(client, printer.interrupt) as signals:
        try:
            errors.tell(CONNECTED)
            printer.start()
            if listen:
                with printer.over:
                    printer.over.recv(1)
            else:
                _feed(client, printer, signals)
            _leave(client, printer)
        except (ConnectionClosed, TimeoutError):
            pass  # Reported by _result(), from the outcome and the undelivered messages.
        except OSError as exc:
            errors.tell(f"cannot read the input: {exc.strerror}")
            refused = printer.leaving = True
        client.close(None if client.retry_in is None else 0)
        printer.join()
        errors.show("")
    return _result(client, printer, refused=refused, told_to_end=signals.received)


def _result(client: Client, printer: _Printer, *, refused: bool, told_to_end: bool) -> int:
    tell = printer.errors.tell
    if printer.failure is not None:
        tell(f"cannot write the output: {printer.failure.strerror}")
        return 1
    outcome = printer.outcome
    code = 1 if refused or printer.refused else 0
    if outcome is not None and not told_to_end and not (printer.leaving and outcome.code == NORMAL):
        line, failed = exit_status(outcome)
        tell(line)
        code = code or failed
    if client.unacknowledged and not printer.had_enough:
        tell(f"Not delivered: {client.unacknowledged} of your messages.")
        code = 1
    return code


def _feed(client: Client, printer: _Printer, signals: _SignalThread) -> None:
    """Send all input, until its end, a signal, or the end of the connection."""
    for line in input_lines(sys.stdin.fileno(), printer.over):
        if signals.received:
            break
        _say(client, line, printer)
    printer.lines.ended = True


def _leave(client: Client, printer: _Printer) -> None:
    """Leave when the server has acknowledged all messages, and wait for the end."""
    if printer.outcome is None:
        # The acknowledgements and the answer to our Close prove that the server has all the input.
        _deliver(client)
        printer.leaving = True
        client.leave(_PATIENCE)
        printer.join()


def _say(client: Client, line: str | None, printer: _Printer) -> None:
    """Send one line as a message, also if it begins with a slash: logs are full of paths.

    Waits as long as the server needs. Reports a line that cannot be sent; None stands
    for a line that is too long. Raises :class:`ConnectionClosed`.
    """
    nonce = None
    while True:
        try:
            if line is None:
                raise ValueError(f"it exceeds the limit of {LONGEST} characters for a line")
            nonce = client.say(line)
        except ValueError as exc:
            printer.refuse(printer.lines.done + 1, str(exc))
        except NotConnected:
            # The client does not queue lines for an unreachable server of plain lines.
            if not printer.ended.wait(_LOOK):
                continue
            printer.refused = True
        printer.lines.advance(nonce)
        return


def _deliver(client: Client) -> None:
    """Wait until the server has everything. :class:`TimeoutError` if it stays unreachable."""
    limit = Deadline.after(_PATIENCE)
    while True:
        try:
            client.flush(_LOOK)
        except TimeoutError:
            if client.retry_in is None:
                limit = Deadline.after(_PATIENCE)
            elif limit.expired:
                raise
        else:
            return


class _SignalThread(threading.Thread):
    """The thread that lets the client leave after SIGINT, SIGTERM or SIGHUP.

    The signal handlers do nothing: an exception that a handler raises can occur between
    any two instructions of the main thread, also within a lock of the standard library. The
    thread reads the signals from a socket instead. The first signal ends the input.
    After :data:`_LEAVE_TIMEOUT`, at a second signal, or if the server is unreachable,
    the thread closes the client, which ends each wait of the main thread.
    """

    def __init__(self, client: Client, interrupt: Callable[[], None]) -> None:
        super().__init__(name="syncchat-signals", daemon=True)
        self._client = client
        self._interrupt = interrupt
        #: Whether a signal has arrived.
        self.received = False
        self._signals, self._wakeup = socket.socketpair()
        self._wakeup.setblocking(False)

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
            # Under nohup, SIGHUP is ignored: leave it so.
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, lambda _number, _frame: None)
        signal.set_wakeup_fd(self._wakeup.fileno(), warn_on_full_buffer=False)
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        signal.set_wakeup_fd(-1)
        self._wakeup.close()
        self.join()
        # Not earlier: a signal that cannot be written can block the interpreter for good.
        self._signals.close()

    def run(self) -> None:
        """Wait for a signal, and then for the client to leave in time."""
        if not self._signals.recv(1):
            return
        self.received = True
        self._interrupt()
        if self._client.retry_in is None:
            self._signals.settimeout(_LEAVE_TIMEOUT)
            with contextlib.suppress(TimeoutError):
                self._signals.recv(1)
        self._client.close(0)


class _Printer(threading.Thread):
    """The thread that prints the server's events, one line per message, flushed at once."""

    def __init__(
        self,
        client: Client,
        prefix: str,
        errors: StandardError,
        *,
        as_json: bool,
        listen: bool,
        timestamps: bool,
    ) -> None:
        super().__init__(name="syncchat-printer", daemon=True)
        self._client = client
        self._prefix = prefix
        self._as_json = as_json
        self._timestamps = timestamps
        self._on_screen = sys.stdout.isatty()
        self.errors = errors
        #: The progress of the input.
        self.lines = InputLines()
        total = (lambda: None) if listen else input_counter()
        self._limit = RateLimit(self.lines, errors, total, progress=not as_json)
        #: Whether the server has sent a welcome before.
        self._welcomed = False
        #: Whether the client is leaving. Set by the main thread.
        self.leaving = False
        #: How the connection ended; None until then.
        self.outcome: ConnectionClosed | None = None
        #: Whether the server, or the client, has refused a line.
        self.refused = False
        #: Whether the output can no longer be written; and the error, if that is a failure.
        self.had_enough = False
        self.failure: OSError | None = None
        #: Set at the end of the printing. The socket turns readable at the same time.
        self.ended = threading.Event()
        self.over, self._signal = socket.socketpair()

    def interrupt(self) -> None:
        """Make :attr:`over` readable. Any thread may call this."""
        with contextlib.suppress(OSError):  # The printing has ended, and with it the input.
            self._signal.send(b"\0")

    def refuse(self, number: int, why: str) -> None:
        """Report that the line with this number was refused. Any thread may call this."""
        self.refused = True
        self.errors.tell(f"line {number} was refused: {why}")

    def run(self) -> None:
        """Print until the connection ends or nobody reads the output."""
        try:
            while True:
                event = None
                with contextlib.suppress(TimeoutError):
                    event = self._client.receive(self._limit.pause)
                if event is not None:
                    self._print(event)
                if self._client.retry_in is None:
                    self._limit.look(self._client.unacknowledged)
                else:
                    self._limit.rest()
        except ConnectionClosed as exc:
            self.outcome = exc
        except OSError as exc:
            self.had_enough = True
            if not isinstance(exc, BrokenPipeError):
                self.failure = exc
        finally:
            self._limit.rest()
            self.ended.set()
            self._signal.close()
            # If the output is closed, as in `| head`, nobody waits for the server's
            # reply: close at once.
            self._client.close(0 if self.had_enough else None)

    def _print(self, event: Event) -> None:
        """Print an event. Raises OSError if nobody reads the output."""
        is_message = isinstance(event, Message | History | PrivateMessage | Line)
        if self._on_screen or not is_message:
            event = sanitized(event)
        if isinstance(event, Welcome):
            self._limit.learn(event.limits)
        if isinstance(event, Error) and event.nonce is not None:
            # The error refuses a line of the input.
            self.refuse(self.lines.number_of(event.nonce), indent(clean(event.text)))
        if self._as_json:
            self._write(_json_of(event))
            return
        lines = [clean(line) for line in self._words(event)]
        if not is_message:
            for line in lines:
                self.errors.tell(line)
        elif lines:
            prefix = self._prefix
            if self._timestamps:
                sent_at = event.time if isinstance(event, Message | PrivateMessage) else None
                prefix = time.strftime("%Y-%m-%d %H:%M:%S ", local_time(sent_at)) + prefix
            self._write("\n".join(prefix + line for line in lines))

    def _words(self, event: Event) -> list[str]:
        """Format the event for people; an empty list if there is nothing to print."""
        lines = self._client.lines(event)
        if isinstance(event, Disconnected):
            return [*lines, COMING_BACK]
        if isinstance(event, Reconnected):
            return [AGAIN]
        if isinstance(event, Error) and event.nonce is not None:
            return []
        if isinstance(event, Welcome):
            # Print the greeting once, and not again after a reconnect.
            welcomed, self._welcomed = self._welcomed, True
            return [] if welcomed else lines
        return lines

    def _write(self, text: str) -> None:
        if self._on_screen:
            self.errors.hide()
        data = f"{text}\n".encode(sys.stdout.encoding, "replace")
        while data:
            try:
                data = data[os.write(sys.stdout.fileno(), data) :]
            except BlockingIOError:
                # Another process has made standard output non-blocking.
                select.select([], [sys.stdout.fileno()], [])


def _json_of(event: Event) -> str:
    """Format the event as JSON in ASCII, as ``syncchat.v1`` does; the client's events likewise."""
    members = msgspec.to_builtins(event)
    if "type" not in members:
        members = {"type": type(event).__name__.lower(), **members}
    return json.dumps(members).replace("\x7f", "\\u007f")
