"""The real scripts in real processes, with pipes or at a real pseudo-terminal."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self, TextIO, cast

import pexpect

from tests.emulator import Emulator
from tests.forked import ForkedProcess, ForkedTerminal
from tests.peer import PATIENCE

ROOT = Path(__file__).resolve().parents[1]
SERVER = [sys.executable, str(ROOT / "scripts" / "server.py")]
CLIENT = [sys.executable, str(ROOT / "scripts" / "client.py")]


#: The folder of the user's settings and input history: there is none.
NOWHERE = "/nonexistent"


def environment(**changes: str) -> dict[str, str]:
    """The environment without settings of syncchat, and with ``changes``."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SYNCCHAT_")}
    for name in ("NO_COLOR", "COLORTERM", "PROMPT_TOOLKIT_COLOR_DEPTH", "PYTHONUNBUFFERED"):
        clean.pop(name, None)
    # Many tests wait for the line of a message, which a log in a pipe does not have by default.
    ours = {"TERM": "xterm-256color", "LANG": "C.UTF-8", "SYNCCHAT_LOG_MESSAGES": "yes"}
    return clean | ours | {"XDG_CONFIG_HOME": NOWHERE, "XDG_STATE_HOME": NOWHERE} | changes


#: Whether each process starts afresh, instead of being forked from one that has imported the
#: commands already.
start_afresh = False

_MODULE = [sys.executable, "-m", "syncchat"]


def start(
    command: list[str], environment: Mapping[str, str]
) -> subprocess.Popen[str] | ForkedProcess:
    """Start a process whose standard streams are pipes."""
    for begin, function in ((SERVER, "server_main"), (CLIENT, "client_main"), (_MODULE, "main")):
        if not start_afresh and command[: len(begin)] == begin:
            return ForkedProcess(function, [begin[-1], *command[len(begin) :]], environment)
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        text=True,
        encoding="utf-8",
        bufsize=1,
    )


def run(command: list[str], text: str = "", **changes: str) -> subprocess.CompletedProcess[str]:
    """Run a command with that input to its end."""
    with Script(command, **changes) as script:
        with contextlib.suppress(BrokenPipeError):
            script.type(text)
        with contextlib.suppress(BrokenPipeError):
            script.end_input()
        return script.completed(PATIENCE * 2)


class Script:
    """A process whose output is read line by line."""

    def __init__(self, command: list[str], **changes: str) -> None:
        self.process = start(command, environment(**changes))
        #: Guards the lists.
        self._arrived = threading.Condition()
        self.lines: list[str] = []
        self.errors: list[str] = []
        #: The same lines with their line ends.
        self._output: list[str] = []
        self._error_output: list[str] = []
        self._readers = [
            threading.Thread(target=self._read, args=reading)
            for reading in [
                (self.process.stdout, self.lines, self._output),
                (self.process.stderr, self.errors, self._error_output),
            ]
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, pipe: TextIO, lines: list[str], output: list[str]) -> None:
        for line in pipe:
            with self._arrived:
                output.append(line)
                lines.append(line.removesuffix("\n"))
                self._arrived.notify_all()

    def completed(self, patience: float) -> subprocess.CompletedProcess[str]:
        """Wait for the end; everything that the process has written."""
        code = self.exit_code(patience)
        output, errors = "".join(self._output), "".join(self._error_output)
        return subprocess.CompletedProcess([], code, output, errors)

    def wait_for_line(self, pattern: str, *, errors: bool = False, times: int = 1) -> str:
        """The ``times``-th line that matches ``pattern`` whole, now or later."""
        lines = self.errors if errors else self.lines

        def found() -> str | None:
            matching = [line for line in lines if re.fullmatch(pattern, line)]
            return matching[times - 1] if len(matching) >= times else None

        with self._arrived:
            line = self._arrived.wait_for(found, PATIENCE)
            assert line is not None, (pattern, self.lines, self.errors)
            return line

    def type(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def end_input(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def exit_code(self, patience: float = PATIENCE) -> int:
        """Wait for the end, and for the last line."""
        code = self.process.wait(patience)
        for reader in self._readers:
            reader.join(PATIENCE)
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.exit_code()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None and not pipe.closed:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue


def unread(client: Script) -> int:
    """Bytes of the input that the process has not read."""
    assert client.process.stdin is not None
    size = fcntl.ioctl(client.process.stdin.fileno(), termios.FIONREAD, b"\0" * 4)
    return int.from_bytes(size, sys.byteorder)


class ServerScript(Script):
    """``scripts/server.py`` on a free port."""

    def __init__(self, *flags: str, **changes: str) -> None:
        super().__init__([*SERVER, "--port", "0", *flags], **changes)
        try:
            line = self.wait_for_line(r"listening on port \d+")
        except BaseException:
            self.__exit__()
            raise
        self.port = int(line.rsplit(" ", 1)[1])
        self.url = f"ws://127.0.0.1:{self.port}/"


class _ForkedSpawn(pexpect.spawn):  # type: ignore[type-arg]
    """pexpect with a process that is forked from one that has imported the client already."""

    def _spawnpty(self, args: list[str], **how: Any) -> ForkedTerminal:
        return ForkedTerminal("client_main", args[1:], how["env"], how["dimensions"])


class Terminal(Emulator):
    """``scripts/client.py`` at a pseudo-terminal, whose screen can be read."""

    def __init__(
        self,
        *arguments: str,
        columns: int = 80,
        rows: int = 24,
        home: Path | None = None,
        changes: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        #: The user's folders, unless the test passes one.
        self._own_home = tempfile.TemporaryDirectory()
        folders = str(home or self._own_home.name)
        changes = {"XDG_CONFIG_HOME": folders, "XDG_STATE_HOME": folders, **changes}
        super().__init__(columns, rows)
        spawn: type[pexpect.spawn[Any]] = pexpect.spawn if start_afresh else _ForkedSpawn
        self._child = spawn(
            CLIENT[0],
            [*CLIENT[1:], *arguments],
            dimensions=(rows, columns),
            env=environment(**changes),
            timeout=PATIENCE,
        )
        self._child.delaybeforesend = None
        #: Whether it answers requests for the cursor position.
        self.tells_cursor = True

    def _update(self) -> None:
        try:
            data = cast("bytes", self._child.read_nonblocking(65536, timeout=0.02))
        except (pexpect.TIMEOUT, pexpect.EOF):
            return
        self._show(data)

    def read_once(self) -> list[str]:
        """The lines of the screen after one read of the pseudo-terminal, for which it waits."""
        assert select.select([self._child.fileno()], [], [], PATIENCE)[0], self.written[-1000:]
        self._show(os.read(self._child.fileno(), 65536))
        return [line.rstrip() for line in self._screen.display]

    def _show(self, data: bytes) -> None:
        super()._show(data)
        if b"\x1b[6n" in data and self.tells_cursor:
            # Answer as a terminal: the cursor position.
            row, column = self._screen.cursor.y + 1, self._screen.cursor.x + 1
            self._child.send(f"\x1b[{row};{column}R")

    def type(self, text: str) -> None:
        self._child.send(text)

    def type_bytes(self, data: bytes) -> None:
        os.write(self._child.fileno(), data)

    def resize(self, columns: int, rows: int) -> None:
        self._screen.resize(rows, columns)
        self._child.setwinsize(rows, columns)

    def signal(self, number: signal.Signals) -> None:
        self._child.kill(number)

    def hang_up(self) -> None:
        """Hang up, as a closed terminal window does."""
        process: Any = self._child.ptyproc  # type: ignore[attr-defined]
        process.fileobj.close()
        process.closed = self._child.closed = True
        process.wait()

    def exit_code(self) -> int:
        """Wait for the end; the exit code."""
        deadline = time.monotonic() + PATIENCE
        while self._child.isalive():
            self._update()
            assert time.monotonic() < deadline, self.lines()
        self._update()
        code = self._child.exitstatus
        assert isinstance(code, int), f"ended by signal {self._child.signalstatus}"
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._child.close(force=True)
        self._own_home.cleanup()
