"""The client at a terminal: prompt_toolkit reads on the main thread, a worker prints."""

from __future__ import annotations

import contextlib
import sys
import threading

from prompt_toolkit import PromptSession
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.patch_stdout import StdoutProxy

from ..chat.events import Welcome
from ..chat.lines import reply
from ..chat.safetext import clean, indent
from ..client import Client, Disconnected, Reconnected
from ..errors import ConnectionClosed, NotConnected
from .farewell import CONNECTED, farewell

__all__ = ["run_screen"]

_PROMPT = "> "

_AGAIN = "Connected to the chat again!"
_COMING_BACK = "Trying to come back; Ctrl+D leaves."

#: Seconds for which lines are gathered before the prompt is drawn anew below
#: them; the first line after a pause is shown at once.
_GATHER = 0.03

#: Seconds that a server gets to answer a goodbye.
_FAREWELL = 3.0


def run_screen(client: Client, prefix: str) -> int:
    """Talk until somebody leaves. Returns the exit code."""
    print(CONNECTED, flush=True)
    # Prints above the line that is being typed, which is never torn.
    with StdoutProxy(sleep_between_writes=_GATHER) as screen:
        prompt = _Prompt(client, screen)
        worker = _Printer(client, prefix, screen, prompt)
        try:
            worker.start()
            prompt.run()
        except (EOFError, KeyboardInterrupt):
            pass  # Ctrl+D, Ctrl+C: leave.
        finally:
            left = prompt.gone is None
            # Whoever cannot wait for the answer presses Ctrl+C once more.
            with contextlib.suppress(KeyboardInterrupt):
                if client.connected:
                    with contextlib.suppress(TimeoutError, ConnectionClosed):
                        client.flush(_FAREWELL)
                client.close(_FAREWELL)
            client.close(0)
            if worker.ident is not None:
                worker.join()
    if client.unacknowledged:
        print(f"Not delivered: {client.unacknowledged} of your messages.", file=sys.stderr)
        return 1
    if left or prompt.gone is None:
        return 0
    line, code = farewell(prompt.gone)
    print(line, file=sys.stderr)
    return code


class _Prompt:
    """The line that is typed. One prompt for the whole conversation.

    A prompt for each line would leave the terminal to the shell's own line
    editing for the moment between two, in which keys are lost.
    """

    def __init__(self, client: Client, screen: StdoutProxy) -> None:
        self._client = client
        self._screen = screen
        self._session: PromptSession[None] = PromptSession(_PROMPT, enable_suspend=True)
        self._session.default_buffer.accept_handler = self._enter
        #: How the connection ended, once it has.
        self.gone: ConnectionClosed | None = None

    def run(self) -> None:
        """Return when the user leaves or the server is gone; on the main thread.

        Raises EOFError for Ctrl+D and KeyboardInterrupt for Ctrl+C.
        """
        self._session.prompt(pre_run=self._end_if_gone)

    def end(self, gone: ConnectionClosed) -> None:
        """Have :meth:`run` return. From any thread."""
        self.gone = gone
        # The prompt is about to start, or runs, or is over. About to start: it
        # looks at ``gone`` before it waits. Otherwise it has a loop, or had.
        loop = self._session.app.loop
        if loop is not None:
            loop.call_soon_threadsafe(self._end_if_gone)

    def _enter(self, buffer: Buffer) -> bool:
        """Enter was pressed. False: the line is done with."""
        # What the terminal sent as no UTF-8 came as lone surrogates.
        line = buffer.text.encode("utf-8", "replace").decode().rstrip("\r\n")
        if line.strip() == "/quit":
            self._session.app.exit()
        elif line.strip():
            self._screen.write(_PROMPT + indent(clean(line)) + "\n")
            try:
                self._client.send_line(line, timeout=0)
            except (ValueError, NotConnected, TimeoutError) as exc:
                self._screen.write(reply(clean(str(exc))) + "\n")
            except ConnectionClosed:
                pass  # It is over, which is the worker's to tell.
        return False

    def _end_if_gone(self) -> None:
        """On the main thread, in the prompt."""
        future = self._session.app.future
        if self.gone is not None and future is not None and not future.done():
            self._session.app.exit()


class _Printer(threading.Thread):
    """The worker: prints what comes from the server; ends the prompt when nothing more can."""

    def __init__(self, client: Client, prefix: str, screen: StdoutProxy, prompt: _Prompt) -> None:
        super().__init__(name="syncchat-printer", daemon=True)
        self._client = client
        self._prefix = prefix
        self._screen = screen
        self._prompt = prompt

    def run(self) -> None:
        """Print until the connection is over, which the owner's ``close`` brings about."""
        entered = False
        while True:
            try:
                event = self._client.receive()
            except ConnectionClosed as exc:
                self._prompt.end(exc)
                return
            lines = self._client.lines(event)
            if isinstance(event, Disconnected):
                lines.append(reply(_COMING_BACK))
            elif isinstance(event, Reconnected):
                lines = [_AGAIN]
            elif isinstance(event, Welcome):
                # The greeting is for who comes; who goes from room to room, or
                # comes back, is told where it is.
                lines = [reply(f"You are in {event.room} now.")] if entered else lines
                entered = True
            prefix = "" if isinstance(event, Disconnected | Reconnected) else self._prefix
            for line in lines:
                self._screen.write(prefix + indent(clean(line)) + "\n")
