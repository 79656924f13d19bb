"""WSGI servers in processes of their own, with the applications of this folder."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Self

from tests.peer import PATIENCE, wait_for
from tests.processes import ROOT, environment

__all__ = ["APPS", "SERVERS", "WsgiServer"]

APPS = ("plain", "flask", "bottle", "django")

#: The command of each server for an application.
_GUNICORN = ["-m", "gunicorn", "--bind", "127.0.0.1:0", "--worker-class", "gthread"]
SERVERS = {
    "gunicorn": [sys.executable, *_GUNICORN, "--threads", "8"],
    "werkzeug": [sys.executable, "-m", "tests.wsgi.werkzeug_server"],
    "waitress": [sys.executable, "-m", "waitress", "--listen=127.0.0.1:0", "--threads=8"],
}

#: How a server tells its port.
_LISTENS = re.compile(r"(?:Listening at: http|Running on http|Serving on http)://[\w.]+:(\d+)")


class WsgiServer:
    """A server that runs until the end of the ``with`` block."""

    def __init__(self, name: str, app: str, *more: str) -> None:
        self.app = app
        self._command = [*SERVERS[name], *more, f"tests.wsgi.{app}_app:app"]

    def __enter__(self) -> Self:
        self._output = tempfile.NamedTemporaryFile("w+", prefix="wsgi-", suffix=".log")
        self.process = subprocess.Popen(
            self._command,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env=environment(PYTHONPATH=str(ROOT), PYTHONUNBUFFERED="1"),
        )
        wait_for(lambda: self.process.poll() is not None or _LISTENS.search(self.log()))
        found = _LISTENS.search(self.log())
        assert found, self.log()
        self.port = int(found[1])
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._output.close()

    def log(self) -> str:
        """What it has written so far."""
        return Path(self._output.name).read_text("utf-8")
