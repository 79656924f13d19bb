"""The client in a pipe: lines in, lines out, no prompt."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
import threading

import msgspec

from ..chat.events import Error
from ..chat.safetext import clean
from ..client import Client, Disconnected, Event, Gap, Reconnected
from ..closecodes import NORMAL
from ..errors import ConnectionClosed, NotConnected
from ..net import Deadline
from .farewell import AGAIN, COMING_BACK, CONNECTED, farewell
from .standard_input import input_lines
from .strangers import tamed

__all__ = ["run_pipe"]

#: Seconds for which a server may be away once the input has ended, and nobody
#: would notice that this waits.
_PATIENCE = 60.0

#: Seconds between two looks at whether the server is there, where that is waited for.
_LOOK = 0.5

#: Seconds that a server gets to acknowledge the last lines, and to answer a
#: goodbye, where we were told to end.
_FAREWELL = 3.0


def run_pipe(client: Client, prefix: str = "", *, as_json: bool = False) -> int:
    """Send every line of standard input, print every line that comes. Returns the exit code.

    Returns when the server has had all the input, or is gone for good, or
    nobody reads the output any more. What is no message goes to standard error,
    unless all goes to standard output ``as_json``. On the main thread only.
    """
    for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        # Who started us with nohup wants us to stay.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    _tell(CONNECTED)
    worker = _Printer(client, prefix, as_json=as_json)
    told_to_end = refused = False
    try:
        worker.start()
        refused = not _feed(client, worker)
    except (ConnectionClosed, TimeoutError):
        pass  # Which the outcome, or what is not delivered, tells.
    except KeyboardInterrupt:
        told_to_end = True
        with contextlib.suppress(KeyboardInterrupt, ConnectionClosed, TimeoutError):
            if client.retry_in is None:
                client.flush(_FAREWELL)
    except OSError as exc:
        _tell(f"cannot read the input: {exc.strerror}")
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
    return _result(client, worker, refused=refused or worker.refused, told_to_end=told_to_end)


def _result(client: Client, worker: _Printer, *, refused: bool, told_to_end: bool) -> int:
    if worker.failure is not None:
        _tell(f"cannot write the output: {worker.failure.strerror}")
        return 1
    outcome = worker.outcome
    code = 1 if refused else 0
    if outcome is not None and not told_to_end and not (worker.leaving and outcome.code == NORMAL):
        line, failed = farewell(outcome)
        _tell(line)
        code = code or failed
    if client.unacknowledged and not worker.had_enough:
        _tell(f"Not delivered: {client.unacknowledged} of your messages.")
        code = 1
    return code


def _tell(line: str) -> None:
    """Tell who looks at standard error, if there is one."""
    if sys.stderr is None:
        return
    with contextlib.suppress(OSError):
        # Where nobody does, as in `2>&1 | head`, there is nobody to tell.
        print(line, file=sys.stderr, flush=True)


def _feed(client: Client, worker: _Printer) -> bool:
    """Say all the input, and leave when the server has it. False: some of it cannot be said."""
    all_said = True
    for line in input_lines(sys.stdin.fileno(), worker.over):
        all_said = _say(client, line, worker) and all_said
    if worker.outcome is None:
        # The server's acknowledgements, and its answer to our Close, say
        # that it has had all of it.
        _deliver(client)
        worker.leaving = True
        client.leave(_PATIENCE)
        worker.join()
    return all_said


def _say(client: Client, line: str, worker: _Printer) -> bool:
    """Say a line, whatever it begins with: logs are full of paths. False: it cannot be said.

    As fast as the server takes it. Raises :class:`ConnectionClosed`.
    """
    while True:
        try:
            client.say(line)
        except ValueError as exc:
            _tell(f"cannot send a line: {exc}")
            return False
        except NotConnected:
            # A server of plain lines, which the client does not keep for it.
            if worker.ended.wait(_LOOK):
                return False
        else:
            return True


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

    def __init__(self, client: Client, prefix: str, *, as_json: bool) -> None:
        super().__init__(name="syncchat-printer", daemon=True)
        self._client = client
        self._prefix = prefix
        self._as_json = as_json
        self._on_screen = sys.stdout.isatty()
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

    def run(self) -> None:
        """Print until the connection is over or nobody reads."""
        try:
            with self._signal:
                while True:
                    self._print(self._client.receive())
        except ConnectionClosed as exc:
            self.outcome = exc
        except OSError as exc:
            self.had_enough = True
            if not isinstance(exc, BrokenPipeError):
                self.failure = exc
        finally:
            self.ended.set()
            # Nobody waits for a server that takes no more; and who reads no
            # more, as in `| head`, had enough.
            self._client.close(0 if self.had_enough else None)

    def _print(self, event: Event) -> None:
        """Raises OSError where nobody reads."""
        if isinstance(event, Error) and event.nonce is not None:
            # It is about something that was said.
            self.refused = True
        told = isinstance(event, Error | Gap | Disconnected | Reconnected)
        if self._on_screen or told:
            event = tamed(event)
        if self._as_json:
            self._write(_json_of(event))
            return
        lines = [clean(line) for line in self._client.lines(event)]
        if isinstance(event, Disconnected):
            lines.append(COMING_BACK)
        elif isinstance(event, Reconnected):
            lines = [AGAIN]
        if told:
            for line in lines:
                _tell(line)
        elif lines:
            self._write("\n".join(self._prefix + line for line in lines))

    def _write(self, text: str) -> None:
        data = f"{text}\n".encode(sys.stdout.encoding, "replace")
        while data:
            try:
                data = data[os.write(sys.stdout.fileno(), data) :]
            except BlockingIOError:
                # Somebody else has made it non-blocking.
                select.select([], [sys.stdout.fileno()], [])


def _json_of(event: Event) -> str:
    """The event as ``syncchat.v1`` has it, and as it would have the client's own; in ASCII."""
    members = msgspec.to_builtins(event)
    if "type" not in members:
        members = {"type": type(event).__name__.lower(), **members}
    return json.dumps(members).replace("\x7f", "\\u007f")
