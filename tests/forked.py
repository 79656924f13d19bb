"""The commands in processes that are forked from one that has imported them already.

A process that starts afresh spends a third of a second on its imports; a forked one, nothing.
``--full`` starts every process afresh, as a user does.
"""

from __future__ import annotations

import contextlib
import fcntl
import multiprocessing
import os
import signal
import subprocess
import sys
import termios
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver, reduction
from pathlib import Path
from typing import Any, TextIO

from ptyprocess import PtyProcess

__all__ = ["ForkedProcess", "ForkedTerminal", "start_fork_server"]

ROOT = Path(__file__).resolve().parents[1]

_context = multiprocessing.get_context("forkserver")


def start_fork_server() -> None:
    """Start the process from which all others are forked. It ends with this process."""
    _context.set_forkserver_preload(["syncchat.cli", "syncchat.terminal", __name__])
    before = os.environ.get("PYTHONPATH")
    # It must import this checkout, not an installed version.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *([before] if before else [])])
    try:
        forkserver.ensure_running()
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


class _Descriptor:
    """A descriptor of this process that a forked one gets as a number of its own."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, (reduction.DupFd(self._number),)


def _received(duplicate: Any) -> int:
    number: int = duplicate.detach()
    return number


def _become(
    command: str, argv: Sequence[str], environment: Mapping[str, str], streams: list[int]
) -> None:
    """Run the command with these standard streams, in the forked process."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    if os.isatty(0):
        # Make it the terminal of this process, for signals.
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    # As the interpreter opens them with LANG=C.UTF-8.
    how: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape", "closefd": False}
    sys.stdin, sys.stdout = os.fdopen(0, **how), os.fdopen(1, "w", **how)
    sys.stderr = os.fdopen(2, "w", **how | {"errors": "backslashreplace"}, buffering=1)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = list(argv)
    from syncchat import cli  # noqa: PLC0415 - this module itself is to be imported quickly

    sys.exit(getattr(cli, command)())


class _Forked:
    """A function of ``syncchat.cli`` in a process with these standard streams."""

    def __init__(
        self,
        command: str,
        argv: Sequence[str],
        environment: Mapping[str, str],
        streams: Sequence[int],
    ) -> None:
        self._process = _context.Process(
            target=_become,
            args=(command, list(argv), dict(environment), [_Descriptor(each) for each in streams]),
        )
        try:
            self._process.start()
        finally:
            for number in set(streams):
                os.close(number)
        assert self._process.pid is not None
        self.pid = self._process.pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None and self._process.exitcode is not None:
            self.returncode = self._process.exitcode
            self._process.close()
        return self.returncode

    def wait(self, timeout: float) -> int:
        if self.returncode is None:
            self._process.join(timeout)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            # The process can end at any moment.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class ForkedProcess(_Forked):
    """The part of Popen that the tests use, with pipes."""

    def __init__(self, command: str, argv: Sequence[str], environment: Mapping[str, str]) -> None:
        pipes = [os.pipe() for _ in range(3)]
        how: dict[str, Any] = {"encoding": "utf-8", "buffering": 1}
        self.stdin: TextIO = os.fdopen(pipes[0][1], "w", **how)
        self.stdout: TextIO = os.fdopen(pipes[1][0], **how)
        self.stderr: TextIO = os.fdopen(pipes[2][0], **how)
        super().__init__(command, argv, environment, [pipes[0][0], pipes[1][1], pipes[2][1]])


class ForkedTerminal(PtyProcess):  # type: ignore[misc] # it has no types
    """What pexpect needs of a process at a pseudo-terminal."""

    def __init__(
        self,
        command: str,
        argv: Sequence[str],
        environment: Mapping[str, str],
        dimensions: tuple[int, int],
    ) -> None:
        ours, theirs = os.openpty()
        termios.tcsetwinsize(ours, dimensions)
        try:
            self._forked = _Forked(command, argv, environment, [theirs] * 3)
        except BaseException:
            os.close(ours)
            raise
        super().__init__(self._forked.pid, ours)

    def isalive(self) -> bool:
        code = self._forked.poll()
        if code is None:
            return True
        self.terminated = True
        if code < 0:
            self.signalstatus = -code
        else:
            self.exitstatus = code
        return False

    def wait(self) -> int:
        return self._forked.wait(60)
