"""The client at a terminal: prompt_toolkit reads on the main thread, a worker prints."""

from __future__ import annotations

import sys
import threading

from prompt_toolkit import PromptSession
from prompt_toolkit.application import Application
from prompt_toolkit.patch_stdout import StdoutProxy

from ..chat.safetext import clean, indent
from ..client import Client
from ..errors import ConnectionClosed
from .farewell import CONNECTED, farewell

__all__ = ["run_screen"]

_PROMPT = "> "

#: Seconds for which lines are gathered before the prompt is drawn anew below
#: them; the first line after a pause is shown at once.
_GATHER = 0.03


class _ServerGone(Exception):
    """Ends the prompt."""


def run_screen(client: Client, prefix: str) -> int:
    """Talk until somebody leaves. Returns the exit code."""
    print(CONNECTED, flush=True)
    session: PromptSession[str] = PromptSession()
    # Prints above the line that is being typed, which is never torn.
    with StdoutProxy(sleep_between_writes=_GATHER) as screen:
        worker = _Printer(client, prefix, screen, session.app)
        worker.start()
        try:
            _read(client, session, worker)
        except (EOFError, KeyboardInterrupt):
            pass  # Ctrl+D, Ctrl+C: leave.
        except (_ServerGone, ConnectionClosed):
            pass  # The worker knows why.
        finally:
            left = worker.outcome is None
            client.close()
            worker.join()
    if left or worker.outcome is None:
        return 0
    line, code = farewell(worker.outcome)
    print(line, file=sys.stderr)
    return code


def _read(client: Client, session: PromptSession[str], worker: _Printer) -> None:
    """Send each line that is entered, until the end."""
    while True:
        line = session.prompt(_PROMPT, pre_run=worker.end_prompt_if_over)
        if line.strip() == "/quit":
            return
        if line:
            client.send_line(line)


class _Printer(threading.Thread):
    """The worker: prints what comes from the server; ends the prompt when nothing more can."""

    def __init__(
        self, client: Client, prefix: str, screen: StdoutProxy, app: Application[str]
    ) -> None:
        super().__init__(name="syncchat-printer", daemon=True)
        self._client = client
        self._prefix = prefix
        self._screen = screen
        self._app = app
        #: How the connection ended. Written once, by this thread.
        self.outcome: ConnectionClosed | None = None

    def run(self) -> None:
        """Print until the connection is over, which the owner's ``close`` brings about."""
        while self.outcome is None:
            try:
                line = self._client.receive()
            except ConnectionClosed as exc:
                self.outcome = exc
            else:
                self._screen.write(self._prefix + indent(clean(line)) + "\n")
        # The prompt is about to start, runs, or is over. About to start:
        # end_prompt_if_over comes after this assignment and sees it. Else the
        # loop is there, or it is over.
        loop = self._app.loop
        if loop is not None:
            loop.call_soon_threadsafe(self.end_prompt_if_over)

    def end_prompt_if_over(self) -> None:
        """In the prompt's own loop: end it when the connection has ended."""
        future = self._app.future
        if self.outcome is not None and future is not None and not future.done():
            self._app.exit(exception=_ServerGone())
