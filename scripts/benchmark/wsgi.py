"""Servers of WebSockets in a Flask application, on one worker of gunicorn with threads."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import ClassVar

from .clients import PATIENCE
from .dialects import Dialect, Lines, SocketIo
from .running import SCRIPTS, Certificate, OneProcess, Running, Site, Skipped
from .servers import listening_port

__all__ = ["InGunicorn", "SocketIoInGunicorn"]

#: Threads of the worker: one for each client, and some for the others.
_THREADS = 128


class InGunicorn(OneProcess):
    """A script with an ``app``, and the distributions that it needs."""

    under_wsgi = True
    tls = False
    lines: ClassVar[type[Dialect] | None] = Lines

    def __init__(self, name: str, script: str, *distributions: str) -> None:
        super().__init__(name)
        self._script, self._distributions = script, distributions

    def version(self, site: Site) -> str:  # noqa: ARG002
        found = []
        for each in (*self._distributions, "flask", "gunicorn"):
            try:
                found.append(f"{each} {version(each)}")
            except PackageNotFoundError:
                raise Skipped(f"{each} is not installed") from None
        return ", ".join(found)

    def command(self, site: Site, certificate: Certificate | None) -> list[str]:  # noqa: ARG002
        flags = ["--worker-class=gthread", "--workers=1", f"--threads={_THREADS}"]
        flags += ["--bind=127.0.0.1:0", "--graceful-timeout=1"]
        flags += [f"--chdir={SCRIPTS / 'peers'}", f"--pythonpath={SCRIPTS.parent}"]
        return [sys.executable, "-m", "gunicorn", *flags, f"{self._script}:app"]

    def port(self, process: subprocess.Popen[str]) -> int:
        return listening_port(process)

    @contextmanager
    def running(self, site: Site, certificate: Certificate | None) -> Iterator[Running]:
        """Run gunicorn, and wait for its worker."""
        with super().running(site, certificate) as running:
            (arbiter,) = running.processes
            deadline = time.monotonic() + PATIENCE
            while not (workers := arbiter.children()):
                if time.monotonic() >= deadline:
                    raise RuntimeError("gunicorn has no worker")
                time.sleep(0.01)
            yield Running(running.ports, [arbiter, *workers])


class SocketIoInGunicorn(InGunicorn):
    lines = SocketIo
