"""The client in a pipe, or as a service that only listens: no prompt."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable

import msgspec

from ..chat.events import Error, History, Message, PrivateMessage, Welcome
from ..chat.sanitize import clean, indent
from ..client import Client, Disconnected, Event, Line, Reconnected
from ..closecodes import NORMAL
from ..errors import ConnectionClosed, NotConnected
from ..net import Deadline
from .exit_status import AGAIN, COMING_BACK, CONNECTED, exit_status
from .rate_limit import InputLines, RateLimit
from .sanitize import sanitized
from .standard_error import StandardError
from .standard_input import LONGEST, count_lines, input_lines

__all__ = ["run_pipe"]

#: Seconds for which a server may be away once the input has ended, and nobody
#: would notice that this waits.
_PATIENCE = 60.0

#: Seconds between two looks at whether the server is there, where that is waited for.
_LOOK = 0.5

#: Seconds that a server gets to acknowledge the last lines, and to answer a
#: goodbye, where we were told to end.
_FAREWELL = 3.0


def run_pipe(
    client: Client, prefix: str = "", *, as_json: bool = False, listen: bool = False
) -> int:
    """Send every line of standard input, print every message that comes. Returns the exit code.

    Returns when the server has had all the input, or is gone for good, or
    nobody reads the output any more. With ``listen``, no input is read, and it
    goes on until a signal says so: SIGINT, SIGTERM, or SIGHUP. What is no message
    goes to standard error, unless all goes to standard output ``as_json``. On the
    main thread only.
    """
    for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        # Who started us with nohup wants us to stay.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    errors = StandardError()
    errors.tell(CONNECTED)
    worker = _Printer(client, prefix, errors, as_json=as_json, listen=listen)
    told_to_end = refused = False
    try:
        worker.start()
        if listen:
            with worker.over:
                worker.join()
        else:
            _feed(client, worker)
    except (ConnectionClosed, TimeoutError):
        pass  # Which the outcome, or what is not delivered, tells.
    except KeyboardInterrupt:
        told_to_end = True
        with contextlib.suppress(KeyboardInterrupt, ConnectionClosed, TimeoutError):
            if client.retry_in is None:
                client.flush(_FAREWELL)
    except OSError as exc:
        errors.tell(f"cannot read the input: {exc.strerror}")
        refused = worker.leaving = True
    finally:
        # Whoever cannot wait says so once more, and is told what was not
        # delivered all the same.
        with contextlib.suppress(KeyboardInterrupt):
            if client.retry_in is None:
                client.close(_FAREWELL if told_to_end else None)
        with contextlib.suppress(KeyboardInterrupt):
            client.close(0)
            if worker.ident is not None:
                worker.join()
        errors.show("")
    return _result(client, worker, refused=refused or worker.refused, told_to_end=told_to_end)


def _result(client: Client, worker: _Printer, *, refused: bool, told_to_end: bool) -> int:
    tell = worker.errors.tell
    if worker.failure is not None:
        tell(f"cannot write the output: {worker.failure.strerror}")
        return 1
    outcome = worker.outcome
    code = 1 if refused else 0
    if outcome is not None and not told_to_end and not (worker.leaving and outcome.code == NORMAL):
        line, failed = exit_status(outcome)
        tell(line)
        code = code or failed
    if client.unacknowledged and not worker.had_enough:
        tell(f"Not delivered: {client.unacknowledged} of your messages.")
        code = 1
    return code


def _feed(client: Client, worker: _Printer) -> None:
    """Say all the input, and leave when the server has it."""
    for line in input_lines(sys.stdin.fileno(), worker.over):
        _say(client, line, worker)
    worker.lines.ended = True
    if worker.outcome is None:
        # The server's acknowledgements, and its answer to our Close, say
        # that it has had all of it.
        _deliver(client)
        worker.leaving = True
        client.leave(_PATIENCE)
        worker.join()


def _say(client: Client, line: str | None, worker: _Printer) -> None:
    """Say a line, whatever it begins with: logs are full of paths.

    As fast as the server takes it. One that cannot be said is told. Raises
    :class:`ConnectionClosed`.
    """
    nonce = None
    while True:
        try:
            if line is None:
                raise ValueError(f"it is longer than the {LONGEST} characters of a line")
            nonce = client.say(line)
        except ValueError as exc:
            worker.refuse(worker.lines.done + 1, str(exc))
        except NotConnected:
            # A server of plain lines, which the client does not keep for it.
            if not worker.ended.wait(_LOOK):
                continue
            worker.refused = True
        worker.lines.advance(nonce)
        return


def _deliver(client: Client) -> None:
    """Wait until the server has had everything. :class:`TimeoutError` where it stays away."""
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


class _Printer(threading.Thread):
    """The worker: prints what comes from the server, one line a message, flushed at once."""

    def __init__(
        self, client: Client, prefix: str, errors: StandardError, *, as_json: bool, listen: bool
    ) -> None:
        super().__init__(name="syncchat-printer", daemon=True)
        self._client = client
        self._prefix = prefix
        self._as_json = as_json
        self._on_screen = sys.stdout.isatty()
        self.errors = errors
        #: The input, as far as it is said.
        self.lines = InputLines()
        total = (lambda: None) if listen else _input_counter()
        self._limit = RateLimit(self.lines, errors, total, progress=not as_json)
        #: The server has welcomed us before.
        self._welcomed = False
        #: We are going; set by the owner.
        self.leaving = False
        #: How the server ended the conversation, if it was the server.
        self.outcome: ConnectionClosed | None = None
        #: The server did not take something that was said.
        self.refused = False
        #: Whoever reads the output does not any more; why, if that is a failure.
        self.had_enough = False
        self.failure: OSError | None = None
        #: There is nothing more to print; the socket turns readable with it.
        self.ended = threading.Event()
        self.over, self._signal = socket.socketpair()

    def refuse(self, number: int, why: str) -> None:
        """Tell that the line of this number is not said. From any thread."""
        self.refused = True
        self.errors.tell(f"line {number} was refused: {why}")

    def run(self) -> None:
        """Print until the connection is over or nobody reads."""
        try:
            with self._signal:
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
            # Nobody waits for a server that takes no more; and who reads no
            # more, as in `| head`, had enough.
            self._client.close(0 if self.had_enough else None)

    def _print(self, event: Event) -> None:
        """Raises OSError where nobody reads."""
        is_message = isinstance(event, Message | History | PrivateMessage | Line)
        if self._on_screen or not is_message:
            event = sanitized(event)
        if isinstance(event, Welcome):
            self._limit.learn(event.limits)
        if isinstance(event, Error) and event.nonce is not None:
            # It is about something that was said.
            self.refuse(self.lines.number_of(event.nonce), indent(clean(event.text)))
        if self._as_json:
            self._write(_json_of(event))
            return
        lines = [clean(line) for line in self._words(event)]
        if not is_message:
            for line in lines:
                self.errors.tell(line)
        elif lines:
            self._write("\n".join(self._prefix + line for line in lines))

    def _words(self, event: Event) -> list[str]:
        """The event in words; nothing where there is nothing to tell."""
        lines = self._client.lines(event)
        if isinstance(event, Disconnected):
            return [*lines, COMING_BACK]
        if isinstance(event, Reconnected):
            return [AGAIN]
        if isinstance(event, Error) and event.nonce is not None:
            return []
        if isinstance(event, Welcome):
            # The greeting is for who comes, and not for who comes back.
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
                # Somebody else has made it non-blocking.
                select.select([], [sys.stdout.fileno()], [])


def _input_counter() -> Callable[[], int | None]:
    """Counts the lines of standard input when it is asked to, from where that is now."""
    descriptor, begin = sys.stdin.fileno(), 0
    with contextlib.suppress(OSError):
        # A pipe has no place.
        begin = os.lseek(descriptor, 0, os.SEEK_CUR)

    def count() -> int | None:
        try:
            return count_lines(descriptor, begin)
        except OSError:
            return None

    return count


def _json_of(event: Event) -> str:
    """The event as ``syncchat.v1`` has it, and as it would have the client's own; in ASCII."""
    members = msgspec.to_builtins(event)
    if "type" not in members:
        members = {"type": type(event).__name__.lower(), **members}
    return json.dumps(members).replace("\x7f", "\\u007f")
