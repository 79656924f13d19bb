"""A real HAProxy in front of a server."""

from __future__ import annotations

import shutil
import socket
import subprocess
from pathlib import Path
from typing import Self

import pytest

from tests.peer import free_port, wait_for

__all__ = ["HAProxy"]

HAPROXY = shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin:/usr/bin")


class HAProxy:
    """Runs with a configuration in which ``bind :443`` is replaced by a free port."""

    def __init__(self, folder: Path, text: str) -> None:
        if HAPROXY is None:
            pytest.skip("needs haproxy")
        self.port = free_port()
        config = folder / "haproxy.cfg"
        config.write_text(text.replace("bind :443", f"bind 127.0.0.1:{self.port}"))
        check = subprocess.run(
            [HAPROXY, "-c", "-f", str(config)], capture_output=True, text=True, check=False
        )
        assert check.returncode == 0, check.stderr
        assert "WARNING" not in check.stderr, check.stderr
        self._log = folder / "haproxy.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [HAPROXY, "-db", "-f", str(config)], stdout=log, stderr=log
            )

    def log(self) -> str:
        return self._log.read_text()

    def __enter__(self) -> Self:
        wait_for(self._listens, "HAProxy")
        return self

    def _listens(self) -> bool:
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", self.port)) == 0

    def __exit__(self, *exc_info: object) -> None:
        self._process.kill()
        self._process.wait()
