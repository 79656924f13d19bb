"""A real Caddy in front of a server."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Self

import pytest

from tests.peer import PATIENCE, free_port, wait_for

__all__ = ["Caddy"]

CADDY = shutil.which("caddy")


class Caddy:
    """Runs with the blocks of sites ``text`` and a certificate.

    The address ``chat.example.org`` in it gets a free port.
    """

    def __init__(self, folder: Path, text: str, certificate: Path) -> None:
        if CADDY is None:
            pytest.skip("needs caddy")
        self.port = free_port()
        # No certificates, ports and sockets of its own.
        options = "{\n    admin off\n    auto_https disable_redirects\n}\n"
        site = f"https://chat.example.org:{self.port} {{\n    tls {certificate} {certificate}"
        config = folder / "Caddyfile"
        config.write_text(options + text.replace("chat.example.org {", site))
        command = [CADDY, "run", "--config", str(config), "--adapter", "caddyfile"]
        home = {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
        self._log = folder / "caddy.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, env={**os.environ, **home}
            )

    def __enter__(self) -> Self:
        try:
            wait_for(self._listens, "Caddy")
        except BaseException:
            self.__exit__()
            raise
        return self

    def _listens(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", self.port)) == 0

    def __exit__(self, *exc_info: object) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE)
