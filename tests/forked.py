"""The commands in processes that are forked from one that has imported them already.

A process that starts afresh spends a third of a second on its imports; a forked one, nothing.
``--full`` starts every process afresh, as a user does.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver, reduction
from pathlib import Path
from typing import Any, TextIO

__all__ = ["ForkedProcess", "start_fork_server"]

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
    # As the interpreter opens them with LANG=C.UTF-8.
    how: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape", "closefd": False}
    sys.stdin, sys.stdout = os.fdopen(0, **how), os.fdopen(1, "w", **how)
    sys.stderr = os.fdopen(2, "w", **how | {"errors": "backslashreplace"}, buffering=1)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = list(argv)
    from syncchat import cli  # noqa: PLC0415 - this module itself is to be imported quickly

    sys.exit(getattr(cli, command)())


class ForkedProcess:
    """A function of ``syncchat.cli`` in a process: the part of Popen that the tests use."""

    def __init__(self, command: str, argv: Sequence[str], environment: Mapping[str, str]) -> None:
        pipes = [os.pipe() for _ in range(3)]
        theirs = [pipes[0][0], pipes[1][1], pipes[2][1]]
        how: dict[str, Any] = {"encoding": "utf-8", "buffering": 1}
        self.stdin: TextIO = os.fdopen(pipes[0][1], "w", **how)
        self.stdout: TextIO = os.fdopen(pipes[1][0], **how)
        self.stderr: TextIO = os.fdopen(pipes[2][0], **how)
        self._process = _context.Process(
            target=_become,
            args=(command, list(argv), dict(environment), [_Descriptor(each) for each in theirs]),
        )
        try:
            self._process.start()
        finally:
            for number in theirs:
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
