"""The client in a pipe: lines in, lines out, no prompt."""

from __future__ import annotations

import codecs
import contextlib
import os
import selectors
import socket
import sys
import threading
from collections.abc import Iterator

from ..chat.events import Error
from ..chat.safetext import clean, indent
from ..client import Client, Gap
from ..closecodes import NORMAL
from ..errors import ConnectionClosed
from .farewell import CONNECTED, farewell

__all__ = ["run_pipe"]

# Not epoll, which refuses regular files.
_Selector: type[selectors.BaseSelector] = getattr(
    selectors, "PollSelector", selectors.SelectSelector
)


def run_pipe(client: Client, prefix: str) -> int:
    """Send every line of standard input, print every line that comes. Returns the exit code.

    Returns when the server has had all the input, or is gone, or nobody reads
    the output any more. What is no message goes to standard error.
    """
    print(CONNECTED, file=sys.stderr, flush=True)
    worker = _Printer(client, prefix)
    left = refused = False
    try:
        worker.start()
        for line in _lines(sys.stdin.fileno(), worker.over):
            # As a text, whatever it begins with: logs are full of paths.
            # As fast as the server takes it.
            try:
                client.say(line)
            except ValueError as exc:
                print(f"cannot send a line: {exc}", file=sys.stderr)
                refused = True
        left = worker.outcome is None
        if left:
            # The server's acknowledgements, and its answer to our Close, say
            # that it has had all of it.
            client.leave()
            worker.join()
    except (ConnectionClosed, KeyboardInterrupt) as exc:
        left = isinstance(exc, KeyboardInterrupt)
    finally:
        client.close()
        if worker.ident is not None:
            worker.join()
    if worker.failure is not None:
        print(f"cannot write the output: {worker.failure.strerror}", file=sys.stderr)
        return 1
    if worker.refused or refused:
        return 1
    if worker.outcome is None or (left and worker.outcome.code == NORMAL):
        return 0
    line, code = farewell(worker.outcome)
    print(line, file=sys.stderr)
    return code


class _Printer(threading.Thread):
    """The worker: prints what comes from the server, one line a message, flushed at once."""

    def __init__(self, client: Client, prefix: str) -> None:
        super().__init__(name="syncchat-printer", daemon=True)
        self._client = client
        self._prefix = prefix
        #: How the server ended the conversation, if it was the server.
        self.outcome: ConnectionClosed | None = None
        #: The server did not take something that was said.
        self.refused = False
        #: Why the output takes no more.
        self.failure: OSError | None = None
        #: Turns readable when there is nothing more to print.
        self.over, self._signal = socket.socketpair()

    def run(self) -> None:
        """Print until the connection is over or nobody reads."""
        encoding = sys.stdout.encoding
        with self._signal:
            while True:
                try:
                    event = self._client.receive()
                except ConnectionClosed as exc:
                    self.outcome = exc
                    # In bounded time, and then nobody waits for a server
                    # that takes no more.
                    self._client.close()
                    return
                lines = [indent(clean(line)) for line in self._client.lines(event)]
                if isinstance(event, Error | Gap):
                    # With a nonce, it is about something that was said.
                    said = isinstance(event, Error) and event.nonce is not None
                    self.refused = self.refused or said
                    print(*lines, sep="\n", file=sys.stderr, flush=True)
                    continue
                text = "".join(f"{self._prefix}{line}\n" for line in lines)
                try:
                    _write_all(sys.stdout.fileno(), text.encode(encoding, "replace"))
                except BrokenPipeError:
                    # As `| head` ends: it had enough, and so have we.
                    self._client.close(0)
                    return
                except OSError as exc:
                    self.failure = exc
                    self._client.close(0)
                    return


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _lines(descriptor: int, over: socket.socket) -> Iterator[str]:
    """The lines of ``descriptor`` until its end, or until ``over`` turns readable."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    rest = ""
    with over, _Selector() as selector:
        selector.register(over, selectors.EVENT_READ)
        # Where the platform cannot wait for a file, reading alone has to do.
        with contextlib.suppress(OSError, ValueError):
            selector.register(descriptor, selectors.EVENT_READ)
        while True:
            if any(key.fileobj is over for key, _ in selector.select()):
                return
            data = os.read(descriptor, 65536)
            *lines, rest = (rest + decoder.decode(data, final=not data)).split("\n")
            for line in lines:
                yield line.removesuffix("\r")
            if not data:
                break
    if rest:
        yield rest
