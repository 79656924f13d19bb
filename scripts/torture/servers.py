"""The nodes: servers in processes of their own, each behind a proxy."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from .proxy import Proxy

__all__ = ["Node", "NotStarted", "Remains", "clean_environment", "server_command", "wait_until"]

_ROOT = Path(__file__).resolve().parents[2]

#: Seconds that a server may take to start, and to stop after SIGTERM.
_START_SECONDS, _STOP_SECONDS = 30.0, 10.0

_LISTENING = re.compile(rb"^listening on port (\d+)", re.MULTILINE)

#: Signs of a defect in what a server has written.
_DEFECTS = re.compile(rb"^(?:Traceback .*|.*: a step failed|Exception .*)$", re.MULTILINE)


def clean_environment() -> dict[str, str]:
    """The environment without settings of syncchat."""
    return {name: text for name, text in os.environ.items() if not name.startswith("SYNCCHAT_")}


def server_command(engine: str, plant: str | None) -> list[str]:
    """The command for a server of ours."""
    script = "server.py" if plant is None else "torture/plants.py"
    command = [sys.executable, str(_ROOT / "scripts" / script), *([plant] if plant else [])]
    flags = ["--rate", "200", "--burst", "400", "--keep", "1000000", "--max-rooms", "50"]
    return [*command, "--port", "0", "--engine", engine, *flags]


def wait_until(done: Callable[[], bool], seconds: float, pause: float = 0.01) -> bool:
    """Wait until ``done()``. False if it is not within ``seconds``."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() >= deadline:
            return False
        time.sleep(pause)
    return True


@dataclass(frozen=True)
class Remains:
    """What a process has at a moment."""

    threads: int
    descriptors: int
    children: int


class NotStarted(Exception):
    """A server has ended before it has listened, or does not listen."""


class Node:
    """A server that is started again and again, and its proxy, whose port stays.

    Only one thread at a time may call the methods that change its process.
    """

    def __init__(
        self, number: int, command: Sequence[str], folder: Path, environment: Mapping[str, str]
    ) -> None:
        self.number = number
        self._command = command
        self._environment = {**clean_environment(), **environment}
        self._log = folder / f"node{number}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._read_from = 0
        self.proxy = Proxy()

    def __str__(self) -> str:
        return f"node {self.number}"

    @property
    def url(self) -> str:
        """The URL of the chat, through the proxy."""
        return f"ws://127.0.0.1:{self.proxy.port}"

    @property
    def is_up(self) -> bool:
        """Whether its process has been started, and not been killed or stopped by this program."""
        return self._process is not None

    @property
    def pid(self) -> int:
        """The number of the process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start the server, and wait until it listens. Raises :class:`NotStarted`."""
        self._read_from = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
            )
        wait_until(lambda: self._port() is not None or self.has_died(), _START_SECONDS)
        port = self._port()
        if port is None:
            self.kill()
            raise NotStarted(f"{self}: {self._written().decode(errors='replace')}")
        self.proxy.target = port

    def kill(self) -> None:
        """End the process, and those that it has started, with SIGKILL."""
        if self._process is not None:
            self.signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def signal(self, number: signal.Signals) -> None:
        """Send the process, and those that it has started, a signal."""
        if self._process is not None:
            # It leads a group of its own, which may be gone.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def stop(self) -> int | None:
        """End the process with SIGTERM. Returns its exit code; None: it had to be killed."""
        if self._process is None:
            return 0
        self._process.terminate()
        try:
            code = self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            return None
        self._process = None
        return code

    def has_died(self) -> bool:
        """Whether the process has ended by itself."""
        return self._process is not None and self._process.poll() is not None

    def close(self) -> None:
        """End the process and the proxy."""
        self.kill()
        self.proxy.close()

    def remains(self) -> Remains:
        """What the process has now."""
        process = psutil.Process(self.pid)
        return Remains(process.num_threads(), process.num_fds(), len(process.children()))

    def strays(self, pid: int) -> list[int]:
        """Processes of the session of ``pid``, which has ended."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
                if os.getsid(process.pid) == pid:
                    found.append(process.pid)
        return found

    def defects(self) -> list[str]:
        """Lines of the log, of all its lives, that tell of a defect."""
        data = self._log.read_bytes() if self._log.exists() else b""
        return [line.decode(errors="replace") for line in _DEFECTS.findall(data)]

    def _written(self) -> bytes:
        with self._log.open("rb") as log:
            log.seek(self._read_from)
            return log.read()

    def _port(self) -> int | None:
        found = _LISTENING.search(self._written())
        return int(found[1]) if found else None
