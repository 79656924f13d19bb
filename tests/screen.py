"""The terminal client in this process: keys come from a pipe, and an emulator shows the output."""

from __future__ import annotations

import io
import queue
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from prompt_toolkit.application import create_app_session
from prompt_toolkit.data_structures import Size
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.output.vt100 import Vt100_Output

from syncchat import Client
from syncchat.net import Deadline
from syncchat.terminal import Keeper, Preferences, run_screen
from tests.emulator import Emulator
from tests.peer import PATIENCE

__all__ = ["Screen"]


class _Wire(io.StringIO):
    """The client's end of the wire to the emulator. Any thread may write."""

    def __init__(self) -> None:
        super().__init__()
        self.data: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def write(self, text: str) -> int:
        # A terminal driver converts line ends in the same way.
        self.data.put(text.replace("\n", "\r\n").encode())
        return len(text)


class Screen(Emulator):
    """The terminal client on a thread of its own, at the chat of ``url``.

    ``history_file`` keeps the history of typed lines, by default a temporary one; ``keeper``
    keeps what was read, by default nothing does.
    ``client`` are arguments of :class:`Client`. Signals, job control and changes of the
    window's size need a process at a pseudo-terminal: :class:`tests.processes.Terminal`.
    """

    def __init__(
        self,
        url: str,
        *,
        preferences: Preferences | None = None,
        history_file: Path | None = None,
        columns: int = 80,
        rows: int = 24,
        token: str | None = None,
        keeper: Keeper | None = None,
        **client: Any,
    ) -> None:
        super().__init__(columns, rows)
        self._size = Size(rows=rows, columns=columns)
        self._wire = _Wire()
        self._cleanup = ExitStack()
        folder = self._cleanup.enter_context(tempfile.TemporaryDirectory())
        self._keys: PipeInput = self._cleanup.enter_context(create_pipe_input())
        self._client = Client(url if "://" in url else f"ws://{url}", token=token, **client)
        self._token = token
        self._keeper = keeper
        self._preferences = preferences or Preferences()
        self._history_file = history_file or Path(folder, "history")
        self._thread = threading.Thread(target=self._run, name="screen")
        self._code: int | None = None
        self._failure: BaseException | None = None

    def _run(self) -> None:
        output = Vt100_Output(
            self._wire,
            lambda: self._size,
            term="xterm-256color",
            default_color_depth=ColorDepth.from_env(),
        )
        try:
            with create_app_session(input=self._keys, output=output):
                self._code = run_screen(
                    self._client,
                    self._preferences,
                    self._history_file,
                    self._token,
                    keeper=self._keeper,
                    errors=self._wire,
                )
        except BaseException as exc:
            self._failure = exc

    def _update(self) -> None:
        try:
            self._show(self._wire.data.get(timeout=0.02))
            while True:
                self._show(self._wire.data.get_nowait())
        except queue.Empty:
            return

    def type(self, text: str) -> None:
        """Press keys."""
        self._keys.send_text(text)

    def type_bytes(self, data: bytes) -> None:
        """Press keys whose bytes may not be UTF-8."""
        self._keys.send_bytes(data)

    def exit_code(self) -> int:
        """Wait for the end of the client. Returns its exit code."""
        deadline = Deadline.after(PATIENCE)
        while self._thread.is_alive():
            self._update()
            assert not deadline.expired, self.lines()
        self._update()
        if self._failure is not None:
            raise self._failure
        assert self._code is not None
        return self._code

    def __enter__(self) -> Self:
        with self._cleanup:
            self._client.connect()
            self._thread.start()
            self._cleanup = self._cleanup.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        with self._cleanup:
            # The end of the connection ends the prompt.
            self._client.close(0)
            self.exit_code()
